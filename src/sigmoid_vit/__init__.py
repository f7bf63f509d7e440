"""See where a Vision Transformer looks, correct it from 0 to 1, and let it learn the correction."""

from sigmoid_vit.environment import quiet_interrupt, require_packages

quiet_interrupt()
require_packages()  # before the first of them is imported: one sentence in the place of a traceback

from sigmoid_vit.errors import UserError  # noqa: E402
from sigmoid_vit.model.attention import SigmoidAttention  # noqa: E402
from sigmoid_vit.model.decision import decision_map  # noqa: E402
from sigmoid_vit.model.edit import AttentionEdit  # noqa: E402
from sigmoid_vit.model.families import create_model  # noqa: E402

__all__ = ["AttentionEdit", "SigmoidAttention", "UserError", "create_model", "decision_map"]
__version__ = "0.1.0"
