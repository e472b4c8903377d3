"""Audits of fairness and safety: what a model cannot do, and how it treats groups of people.

Every audit is a function of an encoder that returns an `Audit` (`base.py`): figures, verdicts and a report.

- `limits/` (paper, sections 3.1.5 and 6; Goh et al. 2021): counting, spatial relations, abstract properties,
  distance, digits, fine-grained classes, domains, typographic attacks. `scenes`, `text_overlay`,
  `count_scenes` and `scene_pairs` generate the images; `annotated` reads CLEVR and KITTI.
- `labels/`: `class_design` (attracting, similar and harmful labels), `wording` (sensitivity to the prompt).
- `bias/` (paper, section 7.1): accuracy by group, harmful classes, labels that go to one group, on images of
  people with a table of attributes.
- `association/`: WEAT and iEAT tests of embeddings.

Shared: `prompt_scores` (text embeddings of answers, scores as answers) and `generated_images` (generated
images as a data set). `data/` holds the word lists.
"""

from __future__ import annotations

from diptych.audits.base import Audit

__all__ = ["Audit"]
