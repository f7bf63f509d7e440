"""A Step 2 run beside the run that it started from, as the page asks for it."""

import shutil

import numpy as np
import pytest
import torch
from helpers.editing import make_step_2_run, open_page

from sigmoid_vit import decision_map
from sigmoid_vit.model.checkpoints import save_checkpoint
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def step_2(run, tmp_path_factory):
    return make_step_2_run(tmp_path_factory.mktemp("step 2"), run)


@pytest.fixture
def page(step_2, tmp_path):
    with open_page(step_2, tmp_path / "edits.sqlite", split="val") as page:
        yield page


def test_both_networks_answer_as_they_are(page, step_2):
    s = page.session
    assert page.get("session").json()["first_step"] == "first"
    assert s.first_step._predictor is None  # loaded when somebody asks
    rows = page.get("images/5/first_step").json()["top"]
    first = Network.of_run(step_2.first_step())
    x = first.transform(s.images.pixels(5)[None], torch.zeros(1))
    with torch.no_grad():
        before = first.model(x).softmax(-1)[0]
    own = s.predictor.unedited(5)
    assert [row["class"] for row in rows[:5]] == own.argsort(descending=True)[:5].tolist()
    classes = [row["class"] for row in rows]
    assert [row["p"] for row in rows] == own[classes].tolist()
    assert [row["before"] for row in rows] == pytest.approx(before[classes].tolist(), abs=1e-6)
    assert int(before.argmax()) in classes

    asked = int(own.argmax())  # of both networks
    for network, model in (("own", s.predictor.model), ("first_step", first.model)):
        got = np.frombuffer(page.get("images/5/decision", network=network).content, "<f4")
        np.testing.assert_allclose(got, decision_map(model, x, asked).flatten().numpy(), atol=1e-5)


def test_what_cannot_be_compared_is_said(page, step_2, tmp_path, capfd):
    first = step_2.first_step()
    away = first.folder.rename(tmp_path / "away")
    for what, facts in (("first_step", {}), ("decision", {"network": "first_step"})):
        response = page.get(f"images/5/{what}", **facts)
        assert response.status_code == 410
        assert "first, is not there any more" in response.json()["error"]
    shutil.copytree(away, first.folder)
    save_checkpoint(first.best, {"model": {}})
    response = page.get("images/5/first_step")
    assert (response.status_code, "first, is damaged" in response.text) == (400, True)
    assert str(first.best) in capfd.readouterr().err
    shutil.rmtree(first.folder)
    away.rename(first.folder)
    assert page.get("images/5/first_step").status_code == 200


def test_a_step_1_run_has_none(run, tmp_path):
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        assert page.get("session").json()["first_step"] is None
        assert page.get("images/5/first_step").status_code == 410
