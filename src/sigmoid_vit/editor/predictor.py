"""The prediction under an edit within a stroke: what lies in front of the first edited block is kept."""

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.decision import decision_map, effect_of_erasing
from sigmoid_vit.model.edit import AttentionEdit, LayerEdit, resolve_indices
from sigmoid_vit.model.readout import on_grid, query_rows, rollout, sigmoid_map, softmax_attention
from sigmoid_vit.model.vit import Beside
from sigmoid_vit.runs.network import Network

KEPT = 4  # images whose tokens stay in memory: the present one and those a person goes back to
KEPT_MAPS = 64  # decision maps, of any images and classes
CLS = "cls"
CELLS_AT_A_TIME = 8  # erased before others may use the network


@dataclass
class UneditedPass:
    """The unedited pass of one image."""

    image: Tensor  # the network's input, [1, 3, H, W]
    tokens: list[Tensor]  # in front of every block, [1, N, C]
    beside: Beside  # what each block is given beside them
    probabilities: Tensor  # [K], on the CPU


class Predictor:
    """A network in float32 that one thread computes with; safe to call from any thread.

    Args:
        network: in float32.
        read: image number -> uint8 [3, h, w]; its errors reach the caller.
    """

    def __init__(self, network: Network, read: Callable[[int], Tensor]) -> None:
        self.model, self.transform, self.read = network.model, network.transform, read
        self.device, self.grid = network.device, network.grid
        self.erases_every_cell = network.erases_every_cell
        self._passes: OrderedDict[int, UneditedPass] = OrderedDict()
        self._decisions: OrderedDict[tuple, Tensor] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "network")
        self._last_request = -1e9

    @property
    def num_layers(self) -> int:
        return self.model.depth

    @property
    def num_heads(self) -> int:
        return self.model.num_heads

    def unedited(self, i: int) -> Tensor:
        """Probabilities [K] of image i without an edit."""
        return self._compute(lambda: self._pass(i).probabilities)

    def edited(self, i: int, edit: AttentionEdit) -> Tensor:
        """Probabilities [K] of image i under an edit (a batch of one), exactly those of the model.

        An edit without any edited cell is the unedited network. Raises `UserError` if it does not fit.
        """
        return self._compute(lambda: self._edited(i, edit))

    def attention(self, i: int, layer: int, head: int | None, query: int | str) -> Tensor:
        """The network's own sigmoid attention in one layer, 0..1 [gh, gw].

        Args:
            head: None for the mean over the heads.
            query: the patch whose attention it is, by its number, or "cls" for the class token. Without a
                class token, "cls" is the mean over all patches.
        """
        return self._compute(lambda: self._attention(i, layer, head, query))

    def rollout(self, i: int, query: int | str) -> Tensor:
        """Attention rollout over all layers, divided by its maximum, 0..1 [gh, gw]; `query` as above."""
        return self._compute(lambda: self._rollout(i, query))

    def decision(
        self,
        i: int,
        target: int | None,
        against: int | None,
        exact: bool,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Tensor:
        """What each cell does to the decision, in nats [gh, gw]: `decision_map` of image i.

        Args:
            target, against: classes; a target of None is the predicted one.
            exact: erase every cell; people's requests may come in between.
            is_wanted: whether somebody still waits for it; raises `UserError` as soon as nobody does.
        """
        asked = i, target, against
        found = self._decisions.get((*asked, exact))
        if found is None:
            found = self._exact(*asked, is_wanted) if exact else self._estimate(*asked)
            self._decisions[(*asked, exact)] = found
            while len(self._decisions) > KEPT_MAPS:
                self._decisions.popitem(last=False)
        return found

    def predict_batch(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Of images uint8 [B, 3, h, w]: probabilities [B, K] and attention of the last layer [B, gh, gw].

        The latter is `softmax_attention`. For work in the background: not counted as a person's request.
        """
        return self._worker.submit(self._predict_batch, pixels).result()

    def idle_for(self) -> float:
        """Seconds since the last request of a person."""
        return time.monotonic() - self._last_request

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)

    def _compute(self, request: Callable[[], Tensor]) -> Tensor:
        self._last_request = time.monotonic()
        found = self._worker.submit(torch.inference_mode()(request)).result()
        self._last_request = time.monotonic()
        return found

    def _pass(self, i: int) -> UneditedPass:
        if i not in self._passes:
            image = self._input(self.read(i)[None])
            x, beside = self.model.embed(image)
            probabilities, tokens = self._from_block(0, x, beside)
            self._passes[i] = UneditedPass(image, tokens, beside, probabilities)
        self._passes.move_to_end(i)
        while len(self._passes) > KEPT:
            self._passes.popitem(last=False)
        return self._passes[i]

    def _edited(self, i: int, edit: AttentionEdit) -> Tensor:
        image = self._pass(i)
        layers, layer_edit = self.model.layer_edit(image.image, edit)
        if not (layers and layer_edit.edited.any()):
            return image.probabilities
        x, beside = image.tokens[layers[0]], image.beside
        return self._from_block(layers[0], x, beside, layers, layer_edit)[0]

    def _from_block(
        self,
        first: int,
        x: Tensor,
        beside: Beside,
        edited_layers: list[int] = (),
        edit: LayerEdit | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Probabilities [K] from the tokens x [1, N, C] in front of block `first`, and all tokens met."""
        tokens, model = [], self.model
        for i in range(first, self.num_layers):
            tokens.append(x)
            x, _ = model.forward_block(i, x, beside, edit if i in edited_layers else None)
        return model.classify(x, edit).softmax(-1)[0].cpu(), tokens

    def _logits(self, i: int, layer: int, rows: slice) -> Tensor:
        """Attention logits [1, H, Q, N] of a layer."""
        image = self._pass(i)
        return self.model.forward_block(layer, image.tokens[layer], image.beside, record=rows)[1]

    def _attention(self, i: int, layer: int, head: int | None, query: int | str) -> Tensor:
        resolve_indices([layer], self.num_layers, "layer")
        heads = slice(None) if head is None else resolve_indices([head], self.num_heads, "head")
        logits = self._logits(i, layer, self._rows(query))
        return sigmoid_map(logits, self.grid)[0, heads].mean(0).cpu()

    def _estimate(self, i: int, target: int | None, against: int | None) -> Tensor:
        found = self._compute(lambda: decision_map(self.model, self._pass(i).image, target, against, False))
        return found[0].cpu()

    def _exact(
        self, i: int, target: int | None, against: int | None, is_wanted: Callable[[], bool]
    ) -> Tensor:
        gh, gw = self.grid
        effect = torch.zeros(1, gh, gw)
        for cells in torch.arange(gh * gw).split(CELLS_AT_A_TIME):
            if not is_wanted():
                raise UserError(f"nobody waits for the map of image {i} any more")
            chosen = torch.zeros(1, gh * gw, dtype=torch.bool).index_fill(1, cells, True).view(1, gh, gw)
            effect += self._compute(lambda c=chosen: self._effect(i, c, target, against))
        return effect[0]

    def _effect(self, i: int, cells: Tensor, target: int | None, against: int | None) -> Tensor:
        return effect_of_erasing(self.model, self._pass(i).image, cells, target, against).cpu()

    def _rollout(self, i: int, query: int | str) -> Tensor:
        rows = self._rows(query)
        layers = [self._logits(i, layer, slice(None)).softmax(-1).mean(1) for layer in range(self.num_layers)]
        shares = on_grid(rollout(layers, rows)[0], self.grid).cpu()
        return shares / shares.max()

    def _rows(self, query: int | str) -> slice:
        gh, gw = self.grid
        if query != CLS and not 0 <= query < gh * gw:
            raise UserError(f"there is no patch {query}; patches are numbered 0 to {gh * gw - 1}")
        return query_rows(self.model, None if query == CLS else query)

    @torch.inference_mode()
    def _predict_batch(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        class_logits, attention = softmax_attention(self.model, self._input(pixels))
        return class_logits.softmax(-1).cpu(), attention.cpu()

    def _input(self, pixels: Tensor) -> Tensor:
        return self.transform(pixels.to(self.device), torch.arange(len(pixels)))
