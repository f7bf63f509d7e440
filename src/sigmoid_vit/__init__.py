"""See where a Vision Transformer looks, correct it from 0 to 1, and let it learn the correction."""

from sigmoid_vit.attention import SigmoidAttention
from sigmoid_vit.edits import AttentionEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.model import create_model

__all__ = ["AttentionEdit", "SigmoidAttention", "UserError", "create_model"]
__version__ = "0.1.0"
