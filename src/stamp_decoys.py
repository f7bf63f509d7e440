"""Copy a folder of images with decoys: grey squares that tell the class in training and lie in the test."""

from dataclasses import asdict, dataclass

from sigmoid_vit.data.decoy import stamp_decoys
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser, check_options, option


@dataclass
class Options:
    source: str = option(text="data set with train/<class>/ and test/ or val/")
    out: str = option(text="folder to write; it must not exist")
    cells: int = option(8, "the square is a corner cell of a grid of so many cells a side", low=1)
    seed: int = option(0, "of corners and random shades", low=0)

    def __post_init__(self) -> None:
        check_options(self)


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    for name, images in stamp_decoys(**asdict(o)).items():
        print(f"{o.out}/{name}: {images} images")


if __name__ == "__main__":
    run(main)
