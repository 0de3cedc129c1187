"""The proxy settings that the serving guide recommends."""

import re

import pytest

from kd import paths

GUIDE = (paths.ROOT / "docs" / "serving.md").read_text()


@pytest.mark.parametrize("base", ["", "/demo", "/teaching/demo"])
def test_proxy_denies_the_metrics_below_any_path(base):
    (pattern,) = re.findall(r"location ~ (\S+) *\{ *deny all; *\}", GUIDE)
    assert re.search(pattern, f"{base}/_stcore/metrics")
    assert not re.search(pattern, f"{base}/_stcore/stream") and not re.search(pattern, f"{base}/")


@pytest.mark.parametrize("header", ["Upgrade", "Host", "X-Forwarded-Proto", "X-Forwarded-For"])
def test_proxy_passes_on_what_the_app_needs(header):
    assert f"proxy_set_header {header} " in GUIDE
