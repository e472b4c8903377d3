"""Short texts with a name in them, in several languages."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.training.data.sources.captions import Templates

TEMPLATES = {
    "en": ("{}", "{}", "{a}", "the {}", "{s}", "a photo of {a}.", "a photo of {s}.", "a picture of {a}."),
    "es": ("{}", "{}", "una foto de {}", "una imagen de {}"),
}


class Prompts:
    """Fills templates with names."""

    def __init__(self) -> None:
        self._templates = {language: Templates(texts) for language, texts in TEMPLATES.items()}
        self._bare = Templates(("{}",))

    def fill(self, language: str, name: str, random: float) -> str:
        """Fill one of the templates of a language, chosen by a random number in [0, 1)."""
        filled = self._templates.get(language, self._bare).fill(name, {})
        return filled[int(random * len(filled))]


def usual_name(names: Sequence[str], random: float) -> str:
    """The first name in half of the samples, otherwise any of them."""
    return names[0] if random < 0.5 else names[int((2 * random - 1) * len(names))]
