"""MNIST's parts, its files and their damage, the ways to get it, and augmentation."""

import hashlib
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from kd import paths
from kd.data import augmentation, sources, transfer_set
from kd.data.digits import UNLABELLED, Digits, normalize
from kd.data.sources import FileProblem, Source
from kd.device import training_device
from kd.errors import UserError
from kd.randomness import generator
from tests.helpers import threads, wait_until

# -- the parts ------------------------------------------------------------------------


def test_the_validation_ids_are_5000_places_in_the_training_file():
    ids = sources.validation_ids()
    assert len(ids) == len(ids.unique()) == 5000 and ids.min() >= 0 and ids.max() < 60_000


def test_the_sample_is_4000_images_to_learn_from_and_1000_to_judge_on_of_each_class_alike(sample):
    assert sample.source == "sample"
    assert sample.train.labels.bincount().tolist() == [400] * 10
    assert sample.test.labels.bincount().tolist() == [100] * 10
    assert sample.validation is sample.test is sample.glance
    assert not set(sample.train.ids.tolist()) & set(sample.test.ids.tolist())
    assert set(sample.train.ids.tolist()) | set(sample.test.ids.tolist()) == set(
        sources.validation_ids().tolist()
    )


def test_digits_have_the_documented_types(sample):
    digits = sample.train
    assert digits.images.shape == (4000, 28, 28) and digits.images.dtype == torch.uint8
    assert digits.labels.dtype == digits.ids.dtype == torch.int64
    assert digits.inputs().shape == (4000, 1, 28, 28) and digits.inputs().dtype == torch.float32
    taken = digits.take(torch.tensor([5, 2]))
    assert taken.ids.tolist() == digits.ids[[5, 2]].tolist() and torch.equal(
        taken.images[1], digits.images[2]
    )


def test_the_full_set_is_55000_5000_and_10000_images_without_overlap(full_mnist):
    assert [len(part) for part in (full_mnist.train, full_mnist.validation, full_mnist.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    ids = torch.cat([full_mnist.train.ids, full_mnist.validation.ids])
    assert torch.equal(ids.sort().values, torch.arange(60_000))
    assert {full_mnist.train.file, full_mnist.validation.file} == {"train"} and full_mnist.test.file == "test"


def test_the_sample_holds_the_validation_images_of_the_full_set(full_mnist, sample):
    judged = torch.arange(5000) % 5 == 0
    for part, place in ((sample.test, judged), (sample.train, ~judged)):
        for name in ("images", "labels", "ids"):
            assert torch.equal(getattr(part, name), getattr(full_mnist.validation, name)[place])


def test_the_glance_is_1000_validation_images_100_of_each_class(full_mnist):
    assert full_mnist.glance.labels.bincount().tolist() == [100] * 10
    assert set(full_mnist.glance.ids.tolist()) <= set(full_mnist.validation.ids.tolist())


def test_normalized_training_pixels_have_mean_0_and_deviation_1(full_mnist):
    inputs = torch.cat([full_mnist.train.inputs(), full_mnist.validation.inputs()]).double()
    assert inputs.mean().item() == pytest.approx(0, abs=1e-3) and inputs.std().item() == pytest.approx(
        1, abs=1e-3
    )


def test_normalization_is_its_formula():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(4)[:784].view(1, 28, 28)
    expected = (pixels.double() / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(normalize(pixels)[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_digest_names_the_data(mnist):
    assert mnist.digest == replace(mnist).digest
    changed = replace(mnist, test=replace(mnist.test, labels=(mnist.test.labels + 1) % 10))
    assert changed.digest != mnist.digest


# -- MNIST's files ----------------------------------------------------------------------


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """A folder with files like MNIST's, but with a few images; FILES describes them."""
    random, files = np.random.default_rng(0), {}
    folder = tmp_path / "files"
    sources.raw_folder(folder).mkdir(parents=True)
    for name, (magic, shape, _) in sources.FILES.items():
        shape = (20, *shape[1:])
        content = b"".join(number.to_bytes(4, "big") for number in (magic, *shape))
        content += random.integers(0, 256 if len(shape) > 1 else 10, shape, dtype=np.uint8).tobytes()
        (sources.raw_folder(folder) / name).write_bytes(content)
        files[name] = (magic, shape, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(sources, "FILES", files)
    return folder


def truncate(content):
    return content[:-1]


def lengthen(content):
    return content + b"\0"


def empty(content):
    return b""


def other_magic(content):
    return bytes([content[0], content[1], content[2], content[3] ^ 1]) + content[4:]


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 0x10]) + content[-2:]


DAMAGES = {
    truncate: "not complete",
    lengthen: "not complete",
    empty: "not complete",
    other_magic: "magic number",
    flip: "checksum",
}


def test_a_file_is_read_as_its_array(small_files):
    for name, (_, shape, _) in sources.FILES.items():
        path = sources.raw_folder(small_files) / name
        array = sources.read_idx(path)
        assert array.shape == shape and array.dtype == np.uint8
        assert array.tobytes() == path.read_bytes()[-array.size :]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", sources.FILES)
def test_a_damaged_file_is_named_and_set_aside_and_the_others_stay(small_files, name, damage):
    raw = sources.raw_folder(small_files)
    path, others = raw / name, sorted(set(sources.FILES) - {name})
    path.write_bytes(damage(path.read_bytes()))
    path.with_name(f"{name}.gz").write_bytes(b"the download it was unpacked from")
    damaged = path.read_bytes()

    with pytest.raises(FileProblem, match=DAMAGES[damage]) as problem:
        sources.read_idx(path)
    assert str(problem.value).startswith(name) and problem.value.path == path

    (message,) = sources.set_aside(small_files)
    assert message.startswith(name) and f"set aside as {name}.damaged" in message
    assert sorted(file.name for file in raw.iterdir()) == sorted([*others, f"{name}.damaged"])
    assert (raw / f"{name}.damaged").read_bytes() == damaged
    assert sources.set_aside(small_files) == []


def test_a_missing_file_is_named(small_files):
    path = sources.raw_folder(small_files) / "t10k-labels-idx1-ubyte"
    path.unlink()
    with pytest.raises(FileProblem, match="t10k-labels-idx1-ubyte cannot be read"):
        sources.read_idx(path)
    with pytest.raises(UserError, match="train-images-idx3-ubyte cannot be read"):
        sources.load_full(small_files / "nowhere")


def test_a_file_that_cannot_be_set_aside_is_named_for_removal(small_files, monkeypatch):
    path = sources.raw_folder(small_files) / "train-labels-idx1-ubyte"
    path.write_bytes(b"")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "replace", refuse)
    (message,) = sources.set_aside(small_files)
    assert f"remove {path} yourself" in message


# -- where MNIST comes from -----------------------------------------------------------------


def python(script):
    """A command that runs ``script`` instead of a download."""
    return lambda folder: [sys.executable, "-c", script, str(folder)]


HANG = python("import time; time.sleep(600)")
FAIL = python("raise SystemExit(1)")
#: What stands for a successful download in these tests: see the fixture ``arriving``.
ARRIVE = python("import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'arrived').touch()")


@pytest.fixture(autouse=True)
def ready_sample(monkeypatch, sample):
    """Loading the sample again and again would only take time."""
    monkeypatch.setattr(sources, "load_sample", lambda: sample)


@pytest.fixture
def arriving(monkeypatch, mnist):
    """The folder holds all of MNIST as soon as it holds a file called "arrived"."""

    def load(folder):
        if not (folder / "arrived").exists():
            raise FileProblem(folder / "train-images-idx3-ubyte", "is missing.")
        return replace(mnist, source="full")

    monkeypatch.setattr(sources, "load_full", load)


@pytest.fixture
def source(tmp_path):
    """Makes sources, and closes them."""
    made = []

    def make(command, time_limit=60.0, folder=None):
        made.append(Source(folder or tmp_path / "mnist", command, time_limit))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert not threads("mnist-download")


def test_the_sample_is_there_at_once_while_the_download_runs(source):
    waiting = source(HANG)
    assert waiting.state == "downloading" and waiting.messages == []
    assert waiting.mnist().source == "sample"
    assert waiting.progress() == 0


def test_a_download_that_hangs_is_given_up_and_its_process_ended(source):
    hanging = source(HANG, time_limit=1)
    assert hanging.wait(60).source == "sample"
    assert hanging.state == "sample" and hanging.messages == [
        "The download of MNIST was given up after 1 seconds."
    ]
    assert hanging._process.poll() is not None


def test_a_download_that_fails_is_told_in_plain_words(source):
    failing = source(FAIL)
    assert failing.wait(60).source == "sample"
    assert failing.state == "sample" and failing.messages == [
        "MNIST could not be downloaded: there seems to be no network."
    ]


def test_a_download_that_succeeds_gives_the_full_set(source, arriving):
    arrived = source(ARRIVE)
    assert arrived.wait(60).source == "full"
    assert arrived.state == "full" and arrived.messages == []
    assert arrived.mnist() is arrived.mnist()


def test_files_that_are_there_need_no_download(source, arriving, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "arrived").touch()
    there = source(HANG)
    assert there.state == "full" and there.mnist().source == "full"
    there.retry()
    assert there.state == "full" and not threads("mnist-download")


def test_the_real_files_are_found_after_a_download(source, full_mnist, tmp_path):
    script = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"
    copied = source(lambda folder: [sys.executable, "-c", script, str(paths.data_folder()), str(folder)])
    found = copied.wait(120)
    assert copied.state == "full" and found.digest == full_mnist.digest


def test_a_download_that_brings_something_else_is_told(source):
    odd = source(
        python(
            "import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'MNIST/raw/train-images-idx3-ubyte').write_text('?')"
        )
    )
    odd.wait(60)
    assert odd.state == "sample"
    assert odd.messages[0].startswith(
        "The download of MNIST is not right: train-images-idx3-ubyte is 1 bytes long"
    )


def test_retry_downloads_again_and_forgets_what_went_wrong(source, arriving):
    commands = [FAIL, ARRIVE]
    retried = source(lambda folder: commands.pop(0)(folder))
    retried.wait(60)
    assert retried.state == "sample" and retried.messages
    retried.retry()
    assert retried.wait(60).source == "full" and retried.state == "full" and retried.messages == []


def test_retry_during_a_download_starts_no_second_one(source):
    calls = []

    def count(folder):
        calls.append(folder)
        return HANG(folder)

    waiting = source(count)
    wait_until(lambda: calls)
    waiting.retry()
    assert len(threads("mnist-download")) == 1 and len(calls) == 1


def test_damaged_files_do_not_stop_the_app_and_are_named(source, small_files):
    path = sources.raw_folder(small_files) / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:5])
    mended = source(FAIL, folder=small_files)
    assert mended.wait(60).source == "sample"
    assert path.with_name(path.name + ".damaged").exists() and not path.exists()
    assert "train-labels-idx1-ubyte" in mended.messages[0] and len(mended.messages) == 2


def test_a_folder_that_cannot_be_made_is_named(source, tmp_path):
    (tmp_path / "file").touch()
    refused = source(ARRIVE, folder=tmp_path / "file" / "mnist")
    assert refused.wait(60).source == "sample" and refused.state == "sample"
    assert refused.messages == [
        f"MNIST could not be saved in {tmp_path / 'file' / 'mnist'}: Not a directory."
    ]


def test_a_folder_that_takes_no_files_is_not_taken_for_a_missing_network(source, tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(sources.tempfile, "TemporaryFile", refuse)
    refused = source(FAIL)
    refused.wait(60)
    assert refused.messages == [f"MNIST could not be saved in {tmp_path / 'mnist'}: Read-only file system."]


def test_closing_ends_the_download_and_complains_of_nothing(source):
    closed = source(HANG)
    wait_until(lambda: closed._process)
    closed.close()
    assert closed._process.poll() is not None and not threads("mnist-download")
    assert closed.messages == [] and closed.mnist().source == "sample"
    closed.retry()
    assert not threads("mnist-download"), "a closed source starts nothing"


def test_closing_before_the_process_is_there_ends_it_all_the_same(source):
    asked, go_on = threading.Event(), threading.Event()

    def late(folder):
        asked.set()
        go_on.wait(60)
        return HANG(folder)

    closed = source(late)
    asked.wait(60)
    closer = threading.Thread(target=closed.close)
    closer.start()
    wait_until(lambda: closed._closed)
    go_on.set()
    closer.join(60)
    wait_until(lambda: closed._process and closed._process.poll() is not None, "the process is ended")


def test_progress_is_the_share_of_bytes_that_arrived(source, tmp_path):
    running = source(HANG)
    raw = sources.raw_folder(tmp_path / "mnist")
    wait_until(raw.exists)
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(bytes(1648877))
    assert running.progress() == pytest.approx(1648877 / sources.DOWNLOAD_BYTES)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(bytes(20_000_000))
    assert running.progress() == 1


def test_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path / "here"))
    assert paths.data_folder() == tmp_path / "here"
    monkeypatch.delenv("KD_DATA_DIR")
    assert paths.data_folder() == paths.cache_folder() / "data"
    monkeypatch.setenv("KD_DEVICE", "cpu")
    assert training_device() == torch.device("cpu")


# -- augmentation ----------------------------------------------------------------------------


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def digits_of(images):
    """Digits of any (N, 28, 28) uint8 images."""
    count = torch.arange(len(images))
    return Digits(images, count % 10, count, "train")


def noise(count):
    """Noise right up to the border shows every shift, and what comes in from outside."""
    return digits_of(torch.randint(1, 256, (count, 28, 28), generator=seeded(1), dtype=torch.uint8))


def moved(image, down, right):
    """``image`` moved by whole pixels, black coming in: one pixel after the other."""
    out = torch.zeros_like(image)
    for row in range(28):
        for column in range(28):
            if 0 <= row - down < 28 and 0 <= column - right < 28:
                out[row, column] = image[row - down, column - right]
    return out


def test_jitter_shifts_each_image_by_up_to_2_whole_pixels_and_says_by_how_many():
    before = noise(300)
    after = augmentation.jitter(before, seeded())
    for image, result, shift in zip(before.images, after.images, after.shifts):
        assert torch.equal(result, moved(image, *augmentation.SHIFTS[shift]))
    assert set(augmentation.SHIFTS) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert len(after.shifts.unique()) == 25, "all shifts of up to 2 px are used"
    assert (
        torch.equal(after.ids, before.ids)
        and torch.equal(after.labels, before.labels)
        and after.file == "train"
    )


def test_parts_of_shifted_digits_keep_their_shifts():
    digits = augmentation.jitter(noise(20), seeded())
    places = torch.tensor([7, 3, 3, 19])
    assert torch.equal(digits.take(places).shifts, digits.shifts[places])
    assert torch.equal(digits.take(slice(4, 9)).shifts, digits.shifts[4:9])
    assert torch.equal(digits.to(torch.device("cpu")).shifts, digits.shifts)


@pytest.mark.parametrize("augment", [augmentation.jitter, augmentation.affine])
def test_black_stays_exactly_black(augment, mnist):
    blank = digits_of(torch.zeros(30, 28, 28, dtype=torch.uint8))
    assert torch.equal(augment(blank, seeded()).images, blank.images)
    assert (augment(mnist.train, seeded()).images == 0).float().mean() > 0.6


@pytest.mark.parametrize("augment", [augmentation.jitter, augmentation.affine])
def test_augmentation_depends_on_its_generator_alone(augment, mnist):
    before = mnist.train.images.clone()
    first = augment(mnist.train, seeded(1)).images
    torch.manual_seed(3)
    assert torch.equal(first, augment(mnist.train, seeded(1)).images)
    assert not torch.equal(first, augment(mnist.train, seeded(2)).images)
    assert (
        torch.equal(mnist.train.images, before)
        and first.shape == before.shape
        and first.dtype == before.dtype
    )


def test_affine_varies_each_image_on_its_own_and_keeps_its_ink(mnist):
    same = mnist.train.images[:1].repeat(200, 1, 1)
    varied = augmentation.affine(digits_of(same), seeded())
    assert len({image.numpy().tobytes() for image in varied.images}) == 200
    ink = varied.images.float().sum((1, 2)) / same[0].float().sum()
    assert 0.6 < ink.min() and ink.max() < 1.6 and 0.9 < ink.mean() < 1.1
    assert varied.file == "", "a teacher must not take it for the image in the file"


def test_affine_moves_the_middle_by_at_most_2_pixels():
    # A soft spot in the middle: turning and scaling leave it where it is.
    axis = torch.arange(28) - 13.5
    spot = (255 * torch.exp(-(axis[:, None] ** 2 + axis**2) / 8)).round().to(torch.uint8).repeat(300, 1, 1)
    ink = augmentation.affine(digits_of(spot), seeded()).images.double()
    for sums in (ink.sum(1), ink.sum(2)):  # (N, 28): over columns, over rows
        centre = (sums * axis).sum(1) / sums.sum(1)
        # Shifts come before scaling by up to exp(0.15) and shearing by up to 0.15.
        assert centre.abs().max() < 2 * 1.16 * 1.2 and centre.abs().max() > 1.5


def test_every_augmentation_has_a_name():
    assert augmentation.AUGMENTATIONS == {
        "none": None,
        "jitter": augmentation.jitter,
        "affine": augmentation.affine,
    }


# -- the transfer set --------------------------------------------------------------------------


@pytest.mark.parametrize("omitted", ["3", "01234569"])
def test_left_out_digits_are_gone_and_the_others_stay_as_they_are(mnist, omitted):
    left = transfer_set.without(mnist.train, omitted)
    stay = [i for i, label in enumerate(mnist.train.labels.tolist()) if str(label) not in omitted]
    assert left.ids.tolist() == mnist.train.ids[stay].tolist() and torch.equal(
        left.images, mnist.train.images[stay]
    )
    assert transfer_set.without(mnist.train, "") is mnist.train


@pytest.mark.parametrize("count", [10, 37, 1000])
def test_a_budget_of_labels_is_spent_on_all_classes_alike_and_no_image_goes(mnist, count):
    some = transfer_set.with_labels(mnist.train, count, generator("x"))
    has = some.labels != UNLABELLED
    assert has.sum() == count and torch.equal(some.labels[has], mnist.train.labels[has])
    of_each = some.labels[has].bincount(minlength=10)
    assert of_each.max() - of_each.min() <= 1
    assert torch.equal(some.images, mnist.train.images) and torch.equal(some.ids, mnist.train.ids)


def test_which_images_have_labels_depends_on_the_generator_alone_and_more_labels_keep_the_fewer(mnist):
    few, again, other = (
        transfer_set.with_labels(mnist.train, 50, generator(key)).labels for key in ("a", "a", "b")
    )
    assert torch.equal(few, again) and not torch.equal(few, other)
    more = transfer_set.with_labels(mnist.train, 200, generator("a")).labels
    assert (more[few != UNLABELLED] != UNLABELLED).all()


def test_more_labels_than_images_are_refused_in_plain_words(mnist):
    with pytest.raises(UserError, match="only 1,000 images to put 1,001 labels on; ask for fewer"):
        transfer_set.with_labels(mnist.train, 1001, generator("a"))


# -- wrong labels --------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_just_the_share_of_the_labels_is_wrong_and_each_other_digit_alike_often(sample, share):
    noisy = transfer_set.with_wrong_labels(sample.train, share, generator(1))
    wrong = noisy.labels != sample.train.labels
    assert wrong.sum() == round(share * len(sample.train))
    assert noisy.ids is sample.train.ids  # the teacher's answers are found as before
    if share:
        steps = ((noisy.labels - sample.train.labels)[wrong] % 10).bincount(minlength=10)
        expected = wrong.sum() / 9
        assert steps[0] == 0 and ((steps[1:] - expected).abs() < 5 * expected**0.5).all()


def test_a_wrong_label_is_one_of_the_digits_that_are_there_and_no_image_gains_a_label(sample):
    few = transfer_set.with_labels(transfer_set.without(sample.train, "0123456"), 30, generator(1))
    noisy = transfer_set.with_wrong_labels(few, 0.5, generator(1))
    assert ((noisy.labels == UNLABELLED) == (few.labels == UNLABELLED)).all()
    assert (noisy.labels != few.labels).sum() == 15
    assert set(noisy.labels.unique().tolist()) == {UNLABELLED, 7, 8, 9}
