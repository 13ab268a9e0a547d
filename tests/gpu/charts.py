"""Bars and curves as SVG that loads nothing from outside the page."""

import html
import math

COLOURS = ["#2a6f97", "#c8553d", "#588157", "#8a5a9e"]


def text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{html.escape(str(words))}</text>'


def bars(rows, unit, scale=None, width=760):
    """Draws rows of (label, value, annotation, colour index) on one scale, which ends at the larger of `scale` and the
    largest value."""
    if not rows:
        return ""
    end = max([scale or 0, *(row[1] for row in rows)]) or 1
    left, right, step = 270, 190, 22
    room = width - left - right
    parts = []
    for i, (label, value, note, colour) in enumerate(rows):
        y = i * step + 4
        length = room * value / end
        parts.append(text(left - 8, y + 13, label, "end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{max(length, 0.5):.1f}" height="16" fill="{COLOURS[colour]}"/>')
        parts.append(text(left + length + 6, y + 13, f"{value:.4g} {unit}{'  ' + note if note else ''}"))
    if scale:
        x = left + room * scale / end
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{len(rows) * step + 4}" class="peak"/>')
    return f'<svg viewBox="0 0 {width} {len(rows) * step + 8}" width="{width}">{"".join(parts)}</svg>'


def curves(series, x_label, y_label, width=760, height=260):
    """Draws series of (name, [y…], colour index) over 1, 2, 3 …; leaves out points that are not finite."""
    points = [(name, [(i + 1, y) for i, y in enumerate(values) if y is not None and math.isfinite(y)], colour)
              for name, values, colour in series]
    every = [point for _, line, _ in points for point in line]
    if not every:
        return ""
    left, bottom, top, right = 60, 34, 10, 20
    x_end = max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    span = (high - low) or 1
    def place(x, y):
        return (left + (width - left - right) * (x - 1) / max(x_end - 1, 1),
                top + (height - top - bottom) * (1 - (y - low) / span))
    parts = []
    for k in range(5):
        y = low + span * k / 4
        _, at = place(1, y)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        parts.append(text(left - 6, at + 4, f"{y:.4g}", "end"))
    for number, (name, line, colour) in enumerate(points):
        joined = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line)
        dash = ' stroke-dasharray="5 4"' if number % 2 else ""
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{COLOURS[colour]}" stroke-width="2"{dash}/>')
        parts.append(text(width - right - 4, top + 16 + 17 * number, name, "end", f'fill="{COLOURS[colour]}"'))
    parts.append(text(width - right, height - 8, f"{x_label} (1 to {x_end})", "end"))
    parts.append(text(4, height - 8, y_label))
    return f'<svg viewBox="0 0 {width} {height}" width="{width}">{"".join(parts)}</svg>'
