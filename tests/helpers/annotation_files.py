"""The same objects in the file format of every annotation tool, written as the formats are published."""

import base64
import io
import json

import numpy as np
from helpers.marked_images import save
from PIL import Image
from pycocotools import mask as coco_mask

from sigmoid_vit.annotations.formats import brush

W, H = 48, 32  # of the images, in pixels
OBJECTS = {  # left, top, right, bottom in pixels
    "train/cat/a.jpg": ("scratch", (8, 8, 32, 24)),
    "train/dog/b.jpg": ("hole", (0, 16, 16, 32)),
}
LABELS = ["hole", "scratch"]
VOC_COLOURS = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
SHORT = {image_id: image_id.rsplit("/", 1)[1] for image_id in OBJECTS}


def images(folder):
    """A data set `folder` with an object on two images, and two images without."""
    for number, image_id in enumerate([*OBJECTS, "train/cat/c.jpg", "train/dog/d.jpg"]):
        save(folder / image_id, np.full((H, W, 3), 40 * number, np.uint8))
    return folder


def mask_of(box, size=(H, W)):
    left, top, right, bottom = box
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def corners(box):
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(folder, segmentation):
    names = list(OBJECTS)
    pictures = [{"id": i, "file_name": SHORT[n], "height": H, "width": W} for i, n in enumerate(names)]
    annotations = []
    for i, name in enumerate(names):
        label, (left, top, right, bottom) = OBJECTS[name]
        box = {"bbox": [left, top, right - left, bottom - top], "category_id": LABELS.index(label)}
        annotations.append({"image_id": i, **box, **segmentation(OBJECTS[name][1])})
    categories = [{"id": i, "name": name} for i, name in enumerate(LABELS)]
    whole = {"images": pictures, "annotations": annotations, "categories": categories}
    return [write(folder / "instances.json", whole)]


def coco_polygon(folder):
    return coco(folder, lambda box: {"segmentation": [np.ravel(corners(box)).tolist()]})


def coco_rle(folder):
    def coded(box):
        rle = coco_mask.encode(np.asfortranarray(mask_of(box)))
        return {"segmentation": {"size": [H, W], "counts": rle["counts"].decode()}}

    return coco(folder, coded)


def coco_plain_rle(folder):
    def coded(box):
        flat = mask_of(box).ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
        counts = np.diff([0, *edges, flat.size]).tolist()
        return {"segmentation": {"size": [H, W], "counts": counts}, "iscrowd": 1}

    return coco(folder, coded)


def coco_box(folder):
    return coco(folder, lambda box: {"segmentation": []})


def label_studio(folder, value, kind="annotations", address="/data/upload/1/0123abcd-{}"):
    tasks = []
    for number, (image_id, (label, box)) in enumerate(OBJECTS.items(), 1):
        region = {"original_width": W, "original_height": H, "image_rotation": 0, "value": value(label, box)}
        answers = [{"id": 1, "result": [{**region, "type": "any"}]}]
        data = {"image": address.format(SHORT[image_id]), "text": "a scratch"}
        tasks.append({"id": number, "data": data, kind: answers})
    return [write(folder / "project.json", tasks)]


def label_studio_brush(folder):
    return label_studio(
        folder,
        lambda label, box: {
            "format": "rle",
            "rle": brush.encode(mask_of(box).astype(bool)),
            "brushlabels": [label],
        },
    )


def label_studio_polygon(folder):
    def value(label, box):
        return {"points": [[100 * x / W, 100 * y / H] for x, y in corners(box)], "polygonlabels": [label]}

    return label_studio(folder, value, address="/data/local-files/?d=photos%2F{}")


def label_studio_rectangle(folder):
    def value(label, box):
        left, top, right, bottom = box
        size = {"width": 100 * (right - left) / W, "height": 100 * (bottom - top) / H}
        return {"x": 100 * left / W, "y": 100 * top / H, **size, "rotation": 0, "rectanglelabels": [label]}

    return label_studio(folder, value, address="s3://bucket/photos/{}")


def label_studio_min(folder):
    items = []
    for image_id, (label, box) in OBJECTS.items():
        points = [[100 * x / W, 100 * y / H] for x, y in corners(box)]
        region = {"points": points, "polygonlabels": [label], "original_width": W, "original_height": H}
        items.append({"id": 1, "image": f"/data/upload/1/0123abcd-{SHORT[image_id]}", "label": [region]})
    return [write(folder / "min.json", items)]


def cvat(folder, shape):
    rows = []
    for number, (image_id, (label, box)) in enumerate(OBJECTS.items()):
        name = image_id.removeprefix("train/")
        rows.append(
            f'<image id="{number}" name="{name}" width="{W}" height="{H}">{shape(label, box)}</image>'
        )
    return [write(folder / "annotations.xml", f"<annotations>{''.join(rows)}</annotations>")]


def cvat_polygon(folder):
    def shape(label, box):
        points = ";".join(f"{x}.0,{y}.0" for x, y in corners(box))
        return f'<polygon label="{label}" occluded="0" points="{points}"/><tag label="seen"/>'

    return cvat(folder, shape)


def cvat_box(folder):
    def shape(label, box):
        sides = " ".join(f'{k}="{v}.00"' for k, v in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True))
        return f'<box label="{label}" {sides}><attribute name="deep">no</attribute></box>'

    return cvat(folder, shape)


def cvat_mask(folder):
    def shape(label, box):
        left, top, right, bottom = box
        around = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
        return f'<mask label="{label}" rle="0, {(right - left) * (bottom - top)}" {around}/>'

    return cvat(folder, shape)


def voc_xml(folder):
    for image_id, (label, (left, top, right, bottom)) in OBJECTS.items():
        sides = {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
        size = f"<size><width>{W}</width><height>{H}</height><depth>3</depth></size>"
        found = f"<object><name>{label}</name><bndbox>{box}</bndbox></object>"
        text = f"<annotation><filename>{SHORT[image_id]}</filename>{size}{found}</annotation>"
        write(folder / "Annotations" / f"{SHORT[image_id][:-4]}.xml", text)
    return [folder / "Annotations"]


def palette_png(folder):
    """Pascal VOC's and CVAT's masks: a palette, 255 as border, and CVAT's label map."""
    for image_id, (label, box) in OBJECTS.items():
        for kind in ("SegmentationClass", "SegmentationObject"):
            mask = mask_of(box) * (1 + LABELS.index(label))
            mask[0, 40:] = 255
            image = Image.fromarray(mask).convert("P")
            colours = np.zeros((256, 3), np.uint8)
            colours[: len(VOC_COLOURS)], colours[255] = VOC_COLOURS, (224, 224, 192)
            image = Image.fromarray(mask, "L").copy()
            image.putpalette(colours.ravel().tolist())
            path = folder / kind / f"{SHORT[image_id][:-4]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return [folder]


def label_map_png(folder):
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    lines += [f"{label}:{','.join(map(str, VOC_COLOURS[i]))}::" for i, label in enumerate(LABELS, 1)]
    write(folder / "labelmap.txt", "\n".join(lines) + "\n")
    return palette_png(folder)


def yolo(folder, numbers):
    for image_id, (label, box) in OBJECTS.items():
        values = " ".join(f"{x:.6f}" for x in numbers(box))
        write(folder / "train/labels" / f"{SHORT[image_id][:-4]}.txt", f"{LABELS.index(label)} {values}\n")
    write(folder / "data.yaml", f"nc: 2\nnames: {LABELS}\ntrain: train/images\n")
    return [folder]


def yolo_polygon(folder):
    return yolo(folder, lambda box: np.ravel(np.array(corners(box)) / (W, H)))


def yolo_box(folder):
    def numbers(box):
        left, top, right, bottom = np.array(box) / (W, H, W, H)
        return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top

    files = yolo(folder, numbers)
    (folder / "data.yaml").unlink()
    write(folder / "train/labels/classes.txt", "\n".join(LABELS) + "\n")
    return [files[0] / "train/labels"]


def labelme(folder, shape):
    for image_id, (label, box) in OBJECTS.items():
        shapes = [{"label": label, **shape(box)}, {"label": "x", "shape_type": "point", "points": [[1, 1]]}]
        content = {"shapes": shapes, "imagePath": f"..\\photos\\{SHORT[image_id]}"}
        write(folder / f"{SHORT[image_id][:-4]}.json", content | {"imageHeight": H, "imageWidth": W})
    return [folder]


def labelme_polygon(folder):
    return labelme(folder, lambda box: {"shape_type": "polygon", "points": corners(box)})


def labelme_rectangle(folder):
    return labelme(folder, lambda box: {"shape_type": "rectangle", "points": [box[:2], box[2:]]})


def labelme_mask(folder):
    def shape(box):
        left, top, right, bottom = box
        file = io.BytesIO()
        Image.fromarray(np.ones((bottom - top, right - left), np.uint8) * 255).convert("1").save(file, "PNG")
        coded = base64.b64encode(file.getvalue()).decode()
        return {"shape_type": "mask", "points": [[left, top], [right - 1, bottom - 1]], "mask": coded}

    return labelme(folder, shape)


def npy(folder):
    for image_id, (_, box) in OBJECTS.items():
        (folder / "train").mkdir(exist_ok=True)
        np.save(folder / "train" / f"{SHORT[image_id][:-4]}.npy", mask_of(box).astype(bool))
    return [folder]


def flat_png(folder):
    for image_id, (_, box) in OBJECTS.items():
        save(folder / f"{SHORT[image_id][:-4]}.png", mask_of(box) * 255)
    return [folder]


FILES = {  # what is written: the source that reads it
    **dict.fromkeys((coco_polygon, coco_rle, coco_plain_rle, coco_box), "coco"),
    **dict.fromkeys((label_studio_brush, label_studio_polygon), "label_studio"),
    **dict.fromkeys((label_studio_rectangle, label_studio_min), "label_studio"),
    **dict.fromkeys((cvat_polygon, cvat_box, cvat_mask), "cvat"),
    voc_xml: "voc",
    **dict.fromkeys((yolo_polygon, yolo_box), "yolo"),
    **dict.fromkeys((labelme_polygon, labelme_rectangle, labelme_mask), "labelme"),
    **dict.fromkeys((palette_png, label_map_png, npy, flat_png), "masks"),
}
