"""Short texts with a name in them, in several languages."""

from __future__ import annotations

from diptych.training.data.sources.captions import Templates
from diptych.training.data.texts.synsets import Synset

TEMPLATES = {
    "en": ("{}", "{}", "{a}", "the {}", "{s}", "a photo of {a}.", "a photo of {s}.", "a picture of {a}."),
    "es": ("{}", "{}", "una foto de {}", "una imagen de {}"),
}


class Prompts:
    """Texts with a name of a synset in them; every choice is made by a random number in [0, 1)."""

    def __init__(self) -> None:
        self._templates = {
            language: [Templates((text,)) for text in texts] for language, texts in TEMPLATES.items()
        }
        self._bare = [Templates(("{}",))]

    def fill(self, language: str, name: str, template: float) -> str:
        """Fill one of the templates of a language."""
        templates = self._templates.get(language, self._bare)
        return templates[int(template * len(templates))].fill(name, {})[0]

    def of_name(self, synset: Synset, language: str, *, name: float, template: float) -> str:
        """A text with a name in a given language: the first one in half of the choices, otherwise any."""
        names = synset.names[language]
        chosen = names[0] if name < 0.5 else names[int((2 * name - 1) * len(names))]
        return self.fill(language, chosen, template)

    def of_synset(
        self,
        synset: Synset,
        other_languages: float,
        *,
        kind: float,
        language: float,
        name: float,
        template: float,
    ) -> str:
        """A text in English, or with a probability of `other_languages` in another language.

        A synset without an English name, or without another one, has texts in what it has.
        """
        others = [code for code in sorted(synset.names) if code != "en"]
        code = "en" if "en" in synset.names else others[0]
        if others and kind < other_languages:
            code = others[int(language * len(others))]
        return self.of_name(synset, code, name=name, template=template)
