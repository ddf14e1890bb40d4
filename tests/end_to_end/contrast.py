"""How well the page's text can be read: the contrast ratio of WCAG, at least 4.5 for small text."""

from __future__ import annotations

# Colours come in any notation: a canvas says what they are in red, green and blue.
_FAINT = """
(least) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const pixel = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const linear = (part) => {
        const share = part / 255;
        return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    };
    const luminance = ([red, green, blue]) =>
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    const background = (element) => {
        for (let it = element; it; it = it.parentElement) {
            const colour = pixel(getComputedStyle(it).backgroundColor);
            if (colour[3] > 200) return colour;
        }
        return [255, 255, 255];
    };
    const hasText = (element) =>
        [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return [...document.querySelectorAll("#claim-dispatch *")]
        .filter((element) => hasText(element) && element.checkVisibility())
        .filter((element) => !element.closest("[disabled]"))
        .map((element) => {
            const front = luminance(pixel(getComputedStyle(element).color));
            const back = luminance(background(element));
            const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
            return [ratio, element.textContent.slice(0, 40)];
        })
        .filter(([ratio]) => ratio < least);
}
"""


def faint(page, least: float = 4.5) -> list[tuple[float, str]]:
    """Return ratio and beginning of all text on the page that stands out less than ``least``."""
    return page.evaluate(_FAINT, least)
