"""What one edit does to the attention and the answer of one image."""

import torch
from torch import Tensor

from sigmoid_vit import plots
from sigmoid_vit.answers import Answers, looks
from sigmoid_vit.attention_quality import looking_rows
from sigmoid_vit.edits import AttentionEdit, resolve_indices
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.pictures.attention import strongest_cell
from sigmoid_vit.pictures.picture import Picture

CLASSES_SHOWN = 5  # with and without an edit


@torch.no_grad()
def edited_answer(
    answers: Answers,
    i: int,
    edit: AttentionEdit | None = None,
    layer: str | int = "last",
    head: int | None = None,
    query: int | None = None,
) -> Picture:
    """The answer to image i without and with an edit, and the attention of one query before and under it.

    Args:
        edit: of one image and all heads; None removes the cell that the class token looks at most in the
            last block.
        layer: whose attention is shown, and head; None for the mean over the heads.
        query: the patch that looks; None for the class token, or the mean over all patches without one.
    """
    network, x = answers.network, answers.inputs([i])
    model, patches = network.model, slice(network.model.num_prefix_tokens, None)
    row = looking_rows(model) if query is None else slice(patches.start + query, patches.start + query + 1)

    def look(edit: AttentionEdit | None) -> tuple[Tensor, Tensor]:
        class_logits, logits = model.forward_with_attention(x, edit, layer, "all")
        heads = next(iter(logits.values()))[0, :, row, patches].sigmoid().mean(1)  # [H, gh * gw]
        shown = heads.mean(0) if head is None else heads[head]
        return class_logits[0].float().softmax(0).cpu(), shown.unflatten(0, network.grid).cpu()

    edit = erased(answers, i) if edit is None else edit
    (before, own), (after, under) = look(None), look(edit.to(x.device))
    in_force = edit.edited[0] & _reaches(edit, model, layer, query)
    under = torch.where(in_force, edit.value[0].float(), under)
    at = None if query is None else divmod(query, network.grid[1])
    (seen,) = resolve_indices(layer, len(model.blocks), "layer")
    who = looks(model) if at is None else f"patch at row {at[0]}, column {at[1]}"
    about = {
        "image": answers.part.part.ids[i],
        "edit": _edit_text(edit, model),
        "attention shown": f"layer {seen}, {'head mean' if head is None else f'head {head}'}, {who}",
    }
    label = int(answers.labels[i])
    shown = _most_probable(before + after, label)
    classes = [network.classes[k] for k in shown]
    figure = plots.edited_answer(
        answers.images([i])[0],
        own,
        under,
        in_force,
        before[shown],
        after[shown],
        classes,
        true=shown.index(label),
        title="{}: {image}\n{edit}\nattention shown: {attention shown}".format(answers.title, **about),
        query=at,
    )
    answer = {
        name: {"without the edit": before[k], "with the edit": after[k]}
        for name, k in zip(classes, shown, strict=True)
    }
    return Picture(figure, {**about, "true": network.classes[label], "probability": answer})


def _most_probable(p: Tensor, label: int) -> list[int]:
    """The CLASSES_SHOWN classes with most of p [K], the last of them giving way to the true one."""
    order = p.argsort(descending=True)[:CLASSES_SHOWN].tolist()
    return order if label in order else [*order[:-1], label]


def _edit_text(edit: AttentionEdit, model: SigmoidViT) -> str:
    """Which cells of its one image an edit of all heads sets to what, and where it is in force."""
    cells = torch.nonzero(edit.edited[0])
    if not len(cells):
        return "no cell is edited"
    (top, left), (bottom, right) = cells.amin(0).tolist(), cells.amax(0).tolist()
    where = f"{_span('row', top, bottom)}, {_span('column', left, right)}"
    if len(cells) < (bottom - top + 1) * (right - left + 1):
        where = f"{len(cells)} cells within {where}"
    low, high = (f"{value:.3g}" for value in edit.value[0][edit.edited[0]].aminmax())
    layers = resolve_indices(edit.layers, len(model.blocks), "layer")
    some = "all layers" if len(layers) == len(model.blocks) else f"layer {', '.join(map(str, layers))}"
    rows = "all query rows" if edit.queries == "all" else "the class token's row"
    return f"{where} set to {low if low == high else f'{low} to {high}'} in {some}, {rows}"


def _span(what: str, first: int, last: int) -> str:
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def erased(answers: Answers, i: int) -> AttentionEdit:
    """The edit that removes the cell of image i at which the class token looks most in the last block."""
    value = torch.zeros(1, *answers.network.grid)
    edited = torch.zeros_like(value, dtype=torch.bool)
    edited[0][strongest_cell(answers.attention([i])[0].mean(0))] = True
    return AttentionEdit(value, edited)


def _reaches(edit: AttentionEdit, model: SigmoidViT, layer: str | int, query: int | None) -> bool:
    """Whether an edit of all heads changes the attention of this query in this layer."""
    L = len(model.blocks)
    in_layer = set(resolve_indices(layer, L, "layer")) <= set(resolve_indices(edit.layers, L, "layer"))
    return in_layer and (edit.queries == "all" or query is None)
