"""Colours, markers and sizes that all figures share.

Figures are drawn 4 inches wide with 9- and 10-point text, so that they stay readable on a 360-pixel screen; on a white
ground, so that they are readable in dark mode; in the colours of Okabe and Ito, which colour-blind readers tell apart,
with a marker or dash beside each colour.
"""

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6b6b6b"

STYLES = [(ORANGE, "o", "-"), (GREEN, "s", "--"), (PURPLE, "^", ":"), (BLUE, "D", "-.")]

WIDTH, DPI = 4.0, 200  # inches, pixels per inch
