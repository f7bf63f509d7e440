"""The network that a Step 2 run started from, to be held beside the run's own."""

import sys
import threading
from pathlib import Path

from sigmoid_vit.data import Part
from sigmoid_vit.editor.part_images import PartImages
from sigmoid_vit.editor.predictor import Predictor
from sigmoid_vit.editor.responses import Refused
from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network


class FirstStep:
    """It is loaded when it is first asked for.

    Attributes:
        name: of the run that `run` started from; "" where that is a run of Step 1.

    Args:
        cache: folder for what is kept of the images, see `PartImages`.
    """

    def __init__(self, run: Run, part: Part, cache: Path) -> None:
        self.run, self.part, self.cache = run, part, cache
        self.name = Path(run.settings().first_step).name
        self._loading, self._predictor = threading.Lock(), None

    def predictor(self) -> Predictor:
        """Raises `Refused`: 410 where the run is not there any more, 400 where it cannot be used."""
        with self._loading:
            self._predictor = self._predictor or self._load()
        return self._predictor

    def close(self) -> None:
        """End its thread, if it has one."""
        if self._predictor:
            self._predictor.close()

    def _load(self) -> Predictor:
        first = self.run.first_step()
        if first is None:
            raise Refused(410, f"the run before Step 2, {self.name or 'none'}, is not there any more")
        try:
            network = Network.of_run(first)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise Refused(
                400, f"the run before Step 2, {self.name}, is damaged; the terminal says how"
            ) from error
        if network.classes != self.run.classes:
            raise Refused(400, f"the run before Step 2, {self.name}, has other classes")
        images = PartImages(self.part, network.transform, self.cache, None)
        return Predictor(network, images.pixels)
