"""Copy a folder of images with decoys: grey squares that tell the class in training and lie in the test."""

from sigmoid_vit.data.decoy import stamp_decoys
from sigmoid_vit.errors import Parser, positive, run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--source", required=True, help="data set with train/<class>/ and test/ or val/")
    parser.add_argument("--out", required=True, help="folder to write; it must not exist")
    cells = "the square is a corner cell of a grid of so many cells a side (default: 8)"
    parser.add_argument("--cells", type=positive, default=8, help=cells)
    parser.add_argument("--seed", type=int, default=0, help="of corners and random shades (default: 0)")
    args = parser.parse_args()
    for name, images in stamp_decoys(args.source, args.out, args.cells, args.seed).items():
        print(f"{args.out}/{name}: {images} images")


if __name__ == "__main__":
    run(main)
