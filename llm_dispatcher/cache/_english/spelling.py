"""Converting British to American spelling.

Only words with the same meaning in both spellings are converted. `cheque` and `tyre` are not, because `check` and
`tire` have other meanings as well.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .lexicon import lexicon

_OUR: Final = (
    "arb|ard|arm|behavi|cand|clam|col|demean|discol|dishon|enam|endeav|fav|ferv|flav|glam|harb|hon|hum|lab|misbehavi"
    "|neighb|od|parl|ranc|rig|rum|sav|savi|splend|succ|tum|val|vap|vig"
)
_RE: Final = (
    "calib|cent|epicent|fib|goit|lit|lust|manoeuv|meag|millilit|och|philt|sab|scept|sepulch|somb|spect|theat|amphitheat"
    "|kilomet|centimet|millimet"
)
_DOUBLED: Final = (
    "cancel|channel|counsel|dial|duel|enamel|equal|fuel|funnel|grovel|initial|jewel|label|level|marvel|model|panel|pedal"
    "|quarrel|rival|shovel|shrivel|signal|snorkel|spiral|swivel|total|travel|tranquil|tunnel|unravel"
)
_FOLDS: Final = (
    (re.compile(rf"({_OUR})our(|s|ed|ing|er|ers|able|ably|ful|less|ite|ites|al|hood|hoods|y)"), r"\1or\2"),
    (re.compile(rf"({_RE})re(s?)"), r"\1er\2"),
    (re.compile(rf"({_RE})red"), r"\1ered"),
    (re.compile(rf"({_DOUBLED})l(ed|ing|er|ers|ity|ery)"), r"\1\2"),
    (re.compile(r"(anal|paral|catal|hydrol|electrol)ys(e|ed|er|ers|ing)"), r"\1yz\2"),
    (re.compile(r"(anal|catal|dial|monol|epil)ogue(s?)"), r"\1og\2"),
)
_ISE: Final = re.compile(r"(\w{3,}i)s(e|es|ed|er|ers|ing|ation|ations|able)")
_PAIRS: Final = {
    "acknowledgement": "acknowledgment", "aeroplane": "airplane", "ageing": "aging", "aluminium": "aluminum",
    "anaemia": "anemia", "anaesthetic": "anesthetic", "artefact": "artifact", "catalogue": "catalog", "cosy": "cozy",
    "defence": "defense", "diarrhoea": "diarrhea", "enrol": "enroll", "enrolment": "enrollment", "fulfil": "fulfill",
    "fulfilment": "fulfillment", "grey": "gray", "haemorrhage": "hemorrhage", "instalment": "installment",
    "jewellery": "jewelry", "judgement": "judgment", "leukaemia": "leukemia", "licence": "license", "mould": "mold",
    "moustache": "mustache", "oesophagus": "esophagus", "oestrogen": "estrogen", "offence": "offense", "ok": "okay",
    "orthopaedic": "orthopedic", "paediatric": "pediatric", "plough": "plow", "practise": "practice",
    "pretence": "pretense", "pyjamas": "pajamas", "sceptic": "skeptic",
    "sceptical": "skeptical", "skilful": "skillful", "sulphur": "sulfur", "yoghurt": "yogurt",
}  # fmt: skip


@lru_cache(maxsize=50_000)
def american(word: str) -> str:
    """The word in American spelling; unchanged if it has no other one."""
    pair = _PAIRS.get(word) or (f"{plural}s" if (plural := _PAIRS.get(word.removesuffix("s"))) else None)
    if pair is not None:
        return pair
    for pattern, replacement in _FOLDS:
        if match := pattern.fullmatch(word):
            return match.expand(replacement)
    if match := _ISE.fullmatch(word):
        with_z = match.expand(r"\1z\2")
        return with_z if lexicon().lists(with_z) else word
    return word
