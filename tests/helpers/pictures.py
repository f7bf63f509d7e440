"""What every picture must be."""

from PIL import Image, ImageStat


def not_blank(path):
    picture = Image.open(path).convert("RGB")
    return max(ImageStat.Stat(picture).stddev) > 5 and picture.getcolors(20) is None  # more than 20 colours
