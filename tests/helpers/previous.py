"""A run's folder and a store as version 0.1.0 wrote them before its modules moved into folders, by hand.

Nothing here comes from the package: what these functions write stays as it is, whatever the package writes.
"""

import hashlib
import json
import sqlite3

import numpy as np
import timm
import torch

MODEL = {"patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 2}
SETTINGS = {
    "projects_name": "Sigmoid_ViT_Training",
    "runs_name": "two",
    "result_dir": "result",
    "resume": False,
    "wandb": False,
    "seed": 0,
    "dataset": "digits_decoy",
    "dataset_path": "data",
    "data_kwargs": {},
    "val_fraction": 0.1,
    "split_seed": -1,
    "img_size": 24,
    "hflip": 0.0,
    "crop_scale": 1.0,
    "skip_bad_images": False,
    "cache_gib": 4.0,
    "workers": 0,
    "model_name": "vit_tiny_patch16_224",
    "model_kwargs": MODEL,
    "pretrained": "result/one/best.pt",
    "batch_size": 64,
    "grad_accum": 1,
    "epochs": 1,
    "opt": "adamw",
    "lr": 0.002,
    "warmup": 0.3,
    "weight_decay": 0.05,
    "clip_grad": 1.0,
    "label_smoothing": 0.0,
    "precision": "auto",
    "compile": False,
    "edits": "edits.sqlite",
    "first_step": "result/one",
    "hitl": "full",
    "attn_lambda": 1.0,
    "attn_loss": "bce",
    "edit_layers": "all",
    "edit_queries": "all",
    "inject": "auto",
    "unedited": "drop",
    "propagate": "true",
    "propagate_steps": 600,
    "doubted": "train",
    "control": "none",
}
CONFIG = {
    "settings": SETTINGS,
    "commit": None,
    "versions": {"python": "3.11.7", "torch": "2.12.1", "torchvision": "0.27.1", "timm": "1.0.31"},
    "classes": [str(k) for k in range(10)],
    "images": {"train": 3, "val": 130},
    "skipped": [],
    "device": "cpu",
    "processes": 1,
    "start_weights": "result/one/best.pt: 44 keys loaded",
    "propagation": {
        "agreement": {"held-out images": 2},
        "look again at": [],
        "predicted": 1,
        "not sure": 963,
    },
    "edits": {"used": 3, "of unknown images": 0, "predicted": 1},
    "plan": "training on the 3 edited images; 1164 without an edit are dropped",
    "data_config": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
}
LOG = {"epoch": 1, "loss": 3.4, "accuracy": 0.15, "lr": 0.0003, "images_per_s": 173.6, "seconds": 1.4}
STORE = """
PRAGMA application_id = 1398171988;
PRAGMA user_version = 1;
CREATE TABLE edit (
    revision INTEGER PRIMARY KEY,
    image_id TEXT NOT NULL, image_sha256 TEXT NOT NULL,
    num_heads INTEGER, gh INTEGER NOT NULL, gw INTEGER NOT NULL,  -- num_heads NULL: one map for all heads
    value BLOB NOT NULL,   -- float32, little endian, [gh, gw] or [num_heads, gh, gw]
    edited BLOB NOT NULL,  -- one bit per cell, the first in the highest bit of the first byte
    layers TEXT NOT NULL, heads TEXT NOT NULL, queries TEXT NOT NULL,  -- layers and heads in JSON
    author TEXT NOT NULL, note TEXT NOT NULL, weights_sha256 TEXT NOT NULL, confidence REAL,
    client_id TEXT NOT NULL UNIQUE,
    base INTEGER,          -- the image's revision before this one
    created TEXT NOT NULL, -- UTC, ISO 8601
    deleted INTEGER NOT NULL,
    digest TEXT NOT NULL   -- SHA-256 over all other columns
);
CREATE INDEX edit_of_image ON edit (image_id, revision);
CREATE TRIGGER no_update BEFORE UPDATE ON edit
BEGIN SELECT RAISE(ABORT, 'a revision is never changed; add another'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON edit
BEGIN SELECT RAISE(ABORT, 'a revision is never removed; add one that says deleted'); END;
CREATE TRIGGER no_replace BEFORE INSERT ON edit
WHEN EXISTS (SELECT 1 FROM edit WHERE revision >= NEW.revision)
  OR EXISTS (SELECT 1 FROM edit WHERE client_id = NEW.client_id)
  OR NEW.base IS NOT (SELECT max(revision) FROM edit WHERE image_id = NEW.image_id)
BEGIN SELECT RAISE(ABORT, 'a revision comes after all others, on top of the newest of its image'); END;
"""


def write_run(folder, maps, ids, propagated):
    """A Step 2 run after its only epoch; returns its weights.

    maps: value float32 and edited bool, [n, 6, 6] each, of the images with these ids; propagated: bool [n].
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2, ensure_ascii=False) + "\n")
    (folder / "log.jsonl").write_text(json.dumps(LOG) + "\n")
    torch.manual_seed(0)
    weights = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=24, **MODEL).state_dict()
    state = {"model": weights, "epoch": 1}
    torch.save({**state, "val_accuracy": 0.1}, folder / "best.pt")
    torch.save({**state, "optimizer": {}, "best": 0.1}, folder / "last.pt")
    value, edited = maps
    arrays = {"value": value, "edited": edited, "predicted": propagated, "ids": np.array(ids)}
    np.savez_compressed(folder / "edits.npz", grid=(6, 6), **arrays)
    return weights


def write_store(path, rows):
    """A store of these rows, each with all columns of the table but the digest."""
    db = sqlite3.connect(path)
    db.executescript(STORE)
    for row in rows:
        plain = {name: [v.hex()] if isinstance(v, bytes) else v for name, v in row.items()}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
        row = {**row, "digest": digest}
        marks = ", ".join(f":{column}" for column in row)
        db.execute(f"INSERT INTO edit ({', '.join(row)}) VALUES ({marks})", row)
    db.commit()
    db.close()
