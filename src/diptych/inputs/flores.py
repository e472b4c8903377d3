"""Mapping of common language codes to the FLORES-200 codes used by NLLB's tokenizer.

FLORES-200: NLLB Team 2022, arXiv 2207.04672, table 1. Only languages with a two-letter code (ISO 639-1) are
listed; any FLORES code is also accepted as it is.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
# For languages with several scripts or forms (Norwegian, Chinese, Serbian) the bare code is the commonest.
_TABLE = """
af afr_Latn|ar arb_Arab|az azj_Latn|be bel_Cyrl|bg bul_Cyrl|bn ben_Beng|bs bos_Latn|ca cat_Latn|cs ces_Latn
cy cym_Latn|da dan_Latn|de deu_Latn|el ell_Grek|en eng_Latn|eo epo_Latn|es spa_Latn|et est_Latn|eu eus_Latn
fa pes_Arab|fi fin_Latn|fr fra_Latn|ga gle_Latn|gl glg_Latn|gu guj_Gujr|he heb_Hebr|hi hin_Deva|hr hrv_Latn
hu hun_Latn|hy hye_Armn|id ind_Latn|is isl_Latn|it ita_Latn|ja jpn_Jpan|ka kat_Geor|kk kaz_Cyrl|km khm_Khmr
kn kan_Knda|ko kor_Hang|lb ltz_Latn|lt lit_Latn|lv lvs_Latn|mk mkd_Cyrl|ml mal_Mlym|mn khk_Cyrl|mr mar_Deva
ms zsm_Latn|mt mlt_Latn|my mya_Mymr|nb nob_Latn|ne npi_Deva|nl nld_Latn|nn nno_Latn|no nob_Latn|pa pan_Guru
pl pol_Latn|pt por_Latn|ro ron_Latn|ru rus_Cyrl|sk slk_Latn|sl slv_Latn|sq als_Latn|sr srp_Cyrl|sv swe_Latn
sw swh_Latn|ta tam_Taml|te tel_Telu|th tha_Thai|tl tgl_Latn|tr tur_Latn|uk ukr_Cyrl|ur urd_Arab|uz uzn_Latn
vi vie_Latn|zh zho_Hans|zh-hans zho_Hans|zh-hant zho_Hant|zh-cn zho_Hans|zh-tw zho_Hant|zh-hk zho_Hant
"""
FLORES: dict[str, str] = dict(pair.split() for line in _TABLE.split("\n") for pair in line.split("|") if pair)


def is_flores(token: str | None) -> bool:
    """Whether a token has the form of a FLORES-200 code.

    Examples
    --------
    >>> is_flores("deu_Latn"), is_flores("de"), is_flores(None)
    (True, False, False)
    """
    return token is not None and _CODE.fullmatch(token) is not None


def flores_code(language: str) -> str | None:
    """The FLORES-200 code of a language code; None if it is unknown.

    Examples
    --------
    >>> flores_code("de"), flores_code("pt_BR"), flores_code("zh-Hant-HK"), flores_code("deu_Latn")
    ('deu_Latn', 'por_Latn', 'zho_Hant', 'deu_Latn')
    >>> flores_code("klingon") is None
    True
    """
    if is_flores(language):
        return language
    parts = language.lower().replace("_", "-").split("-")
    return FLORES.get("-".join(parts[:2])) or FLORES.get(parts[0])
