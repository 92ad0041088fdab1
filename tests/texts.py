"""Texts in which a letter can be written in several ways: composed, or with its marks in one order or another."""

from __future__ import annotations

from typing import Final
from unicodedata import normalize

from hypothesis import strategies as st

_LETTERS: Final = {
    "Arabic": ("ابتسلمنهكعرق", "\u064b\u064e\u064f\u0650\u0651\u0652\u0670"),
    "Hebrew": ("אבגדהושלמתר", "\u05b0\u05b4\u05b7\u05b8\u05bc\u05c1\u05bf"),
    "Vietnamese": ("aeouAEdn", "\u0302\u0323\u0301\u0309\u031b"),
    "Greek": ("αεηιουω", "\u0313\u0301\u0345\u0308"),
    "Devanagari": ("कखगतनपमर", "\u093c\u094d\u0951\u0952"),
    "Thai": ("กขคงจ", "\u0e38\u0e48\u0e49\u0e34"),
}
"""Letters of a script, and marks that follow them. The marks are in several classes, so that they can change places."""

REAL: Final = (
    "السَّلَامُ عَلَيْكُمْ يَا صَدِيقِي الْعَزِيزَ، وَالشَّمْسُ تُشْرِقُ مِنَ الشَّرْقِ كُلَّ يَوْمٍ.",
    "בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ׃ וְהָאָרֶץ הָיְתָה תֹהוּ וָבֹהוּ וְחֹשֶׁךְ עַל־פְּנֵי תְהוֹם",
    "Tiếng Việt có nhiều dấu, và mỗi dấu đổi nghĩa của từ ấy.",
    "세상에는 아직도 우리가 모르는 일이 많이 있습니다. 각각의 까닭이 있습니다.",
    "हिन्दी में क़लम और ज़मीन दोनों शब्द लिखे जाते हैं।",
    "தமிழில் கொக்கு என்பது ஒரு பறவை ஆகும்.",
    "ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ། བོད་ཡིག་ནི་སྐད་ཡིག་ཅིག་རེད།",
    "ガギグゲゴとパピプペポは、かぎぐげごとぱぴぷぺぽである。",
    "A family 👩\u200d👩\u200d👧\u200d👦 and a flag 🏳️\u200d🌈 and a hand 👋🏽 and a key 1️⃣ go by.",
    "Ὦ ξεῖν’, ἀγγέλλειν Λακεδαιμονίοις ὅτι τῇδε κείμεθα… τοῖς κείνων ῥήμασι πειθόμενοι.",
)


@st.composite
def _words(draw: st.DrawFn) -> str:
    letters, marks = _LETTERS[draw(st.sampled_from(sorted(_LETTERS)))]
    clusters = st.tuples(st.sampled_from(letters), st.lists(st.sampled_from(marks), max_size=3, unique=True))
    return "".join(letter + "".join(order) for letter, order in draw(st.lists(clusters, min_size=2, max_size=5)))


made_up = st.lists(_words(), min_size=4, max_size=30).map(" ".join)
"""Words with marks in any order, as people type them."""

FORMS: Final = ("raw", "NFC", "NFD")


def in_form(text: str, form: str) -> str:
    """The same text as another model may write it."""
    return text if form == "raw" else normalize(form, text)  # type: ignore[arg-type]


real = st.tuples(st.sampled_from(REAL), st.sampled_from(FORMS)).map(lambda drawn: in_form(*drawn))
texts_with_marks = made_up | real
