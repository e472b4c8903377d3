"""How fairly and how safely: what a model cannot do, and what it does that it should not.

Limits (paper, sections 3.1.5 and 6; Goh et al. 2021), each a function of an encoder that gives a report:
`counting`, `relations` (which of two things is left, above, inside, nearer), `abstract` (same or different,
symmetric, upright, sorted), `distance` (how far the nearest thing is), `digits` (written by hand and
rendered), `fine` (near classes against distant ones), `wording` (what a prompt's words change), `domains`
(photographs, paintings, sketches), `typographic` (words written on pictures).

What they share: `outcome` (what every audit gives), `asking` (texts and pictures as scores), `scenes`
(pictures drawn from a seed), `writing` (text on pictures), `drawn` (drawn pictures as a data set), `counts`
(numbers as words, and pictures of so many things), `pairs` (two pictures, two sentences), `groups` (classes
that lie near each other), `phrasings` (other words for one class), `annotated` (CLEVR and KITTI as they
come).

Fairness (paper, section 7.1), on pictures of people with a table of attributes: `bias` (accuracy by group,
classes that no person should be put in, labels that go to one group; told by `bias_result` and
`bias_tables`), `association` (WEAT and iEAT; `association_sets`, `association_tests`, `association_result`),
and for any list of labels `class_design` (what attracts, what is near, what harms; `label_words`,
`class_report`). What they share: `people` and `tables` (pictures and their attributes), `crowd` (the groups
of those that could be read), `words` (how values are said), `disparity` (gaps between groups, and whether
they are more than chance), `strata` (the same within strata), `attached` (labels at a threshold). `data`
holds the words.
"""

from __future__ import annotations

from diptych.audits.outcome import Audit

__all__ = ["Audit"]
