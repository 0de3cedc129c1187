"""Say which digit a picture shows: python classify.py PICTURE [PICTURE ...]

Needs numpy, pillow and onnxruntime, and the other files of this folder. Prints the digit and its probability
for each picture. Exit status: 0 if every picture shows one digit, 1 if one of them does not, and 2 if nothing
could be tried.
"""

import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
USAGE = "python classify.py PICTURE [PICTURE ...]"  # Python can be told to drop docstrings
INSTALL = "Install what this needs with: pip install numpy pillow onnxruntime"


def main(pictures: list[str]) -> int:
    """Classify the files called ``pictures``, and return the exit status."""
    if not pictures or pictures[0] in ("-h", "--help"):
        print((__doc__ or USAGE).strip(), file=sys.stdout if pictures else sys.stderr)
        return 0 if pictures else 2
    try:
        import numpy
        import oddities
        import onnxruntime
        import preprocess
    except ImportError as error:
        return complain(f"{error.name} is missing. {INSTALL}", 2)

    def network(name: str, output: str) -> Callable:
        session = onnxruntime.InferenceSession(FOLDER / name, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run([output], {"pixels": pixels[None]})[0][0]

    try:
        logits = network("model.onnx", "logits")
        check = (
            network("digit_check.onnx", "unfamiliarity") if (FOLDER / "digit_check.onnx").exists() else None
        )
    except Exception as error:  # noqa: BLE001 - the runtime raises its own classes
        return complain(f"model.onnx cannot be opened ({error}); unpack the whole archive again.", 2)

    status = 0
    for picture in pictures:
        name = f"{picture}: " if len(pictures) > 1 else ""
        try:
            ink = preprocess.ink_from_picture(Path(picture).read_bytes())
        except OSError as error:
            status = complain(f"{picture} cannot be opened ({error.strerror}).")
            continue
        except preprocess.PictureError as error:
            status = complain(name + str(error))
            continue
        pixels = preprocess.prepare(ink)
        if pixels is None:
            status = complain(name + preprocess.NO_DIGIT)
            continue
        answers = logits(pixels).astype(float)
        shares = numpy.exp(answers - answers.max())
        print(f"{name}{answers.argmax()} ({shares.max() / shares.sum():.1%})", flush=True)
        odd = oddities.oddity(pixels, ink) or ("unfamiliar" if check and check(pixels) > 1 else None)
        if odd:
            status = complain(name + oddities.WARNINGS[odd])
    return status


def complain(sentence: str, status: int = 1) -> int:
    """Print a sentence as an error, and return the exit status."""
    print(sentence, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
