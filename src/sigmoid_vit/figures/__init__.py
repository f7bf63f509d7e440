"""Figures: a picture and its numbers together, a module for each subject.

What a function here returns is a `Picture`; `style.save` writes its figure as PNG and PDF. Colours are even
to the eye and safe for the colour-blind (cividis, viridis).
"""
