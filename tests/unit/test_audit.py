"""The audit of dependencies: verdicts, and an audit that could not be made."""

from tests.audit import verdict


def package(name, *found):
    return {"name": name, "version": "1.0", "vulns": list(found)}


def vulnerability(id, *fixes, aliases=()):
    return {"id": id, "fix_versions": list(fixes), "aliases": list(aliases), "description": ""}


CLEAN = package("clean")


def test_clean_report_passes():
    assert verdict({"dependencies": [CLEAN, package("other")]}) == (["2 of 2 packages were audited."], 0)


def test_fixable_vulnerability_fails_and_others_are_listed():
    report = {"dependencies": [CLEAN, package("old", vulnerability("X-1", "1.1"), vulnerability("X-2"))]}
    (_, fails, told), code = verdict(report)
    assert code == 1 and "old 1.0: X-1, fixed in 1.1" in fails and "no fix" in told
    assert verdict({"dependencies": [package("old", vulnerability("X-2"))]})[1] == 0


def test_accepted_vulnerability_shows_its_reason():
    lines, code = verdict(
        {"dependencies": [package("old", vulnerability("X-1", "1.1", aliases=["CVE-1"]))]},
        {"CVE-1": "never called"},
    )
    assert code == 0 and lines[1].endswith("never called")


def test_unreachable_database_is_not_a_clean_report():
    skipped = {"name": "a", "skip_reason": "not found"}
    for report in (None, {"dependencies": [skipped, skipped, CLEAN]}):
        lines, code = verdict(report)
        assert code == 0 and lines[0].startswith("NOT AUDITED")
