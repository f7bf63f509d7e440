"""The method: a timm Vision Transformer whose attention can be read, edited and learned from."""
