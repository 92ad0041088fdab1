"""Short lists of English words that the rules name: function words, question words, and words that must be equal.

All other words are in the lexicon.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES: Final = _words("the a an")

FUNCTION: Final = _words("""
    the is are of what how to a an in for and do does i on with why can my it be that was were did when where
    who which whose you your me we they he she him her them us our their this these those as at by from about
    into than then there here or if but so have has had could would will should may might must not no between
    over under after before during through much many more most some any all each best good give write list
    explain describe tell make get use one
""")
"""Words that say nothing about the subject of a text. A text with two of them is English."""

QUESTIONS: Final = _words("""
    what how why who whom whose when where which is are was were do does did can could will would should has
    have had may am
""")
ORDERS_TO_ASSISTANTS: Final = _words("""
    give write list explain describe draft suggest tell show summarize summarise translate provide recommend
    outline propose rewrite rephrase paraphrase generate compose compare help discuss create calculate
""")
"""After `can you`, these verbs make an order: `can you draft …`. `can you make …` may be a question."""
ORDERS: Final = ORDERS_TO_ASSISTANTS | _words("""
    make find define name design convert plan solve compute identify extract classify analyze analyse answer act
    teach prove
""")

OF_A_TEXT: Final = _words("""
    translate translation say says said rewrite rephrase paraphrase repeat type reply respond classify label
    sentiment convert mean means meaning phrase word called summarize summarise
""")
"""In a text with these words, greetings and thanks may be the subject of the text."""
LANGUAGES: Final = _words("""
    arabic bengali bulgarian cantonese catalan chinese croatian czech danish dutch english esperanto estonian
    finnish french gaelic german greek hebrew hindi hungarian icelandic indonesian irish italian japanese korean
    latin latvian lithuanian malay mandarin norwegian persian polish portuguese punjabi romanian russian serbian
    slovak spanish swahili swedish tagalog tamil telugu thai turkish ukrainian urdu vietnamese welsh
""")
HANGING: Final = _words("""
    of to the a an say in on for with is are means mean word and or called from by as that which who will would
    can could should not always never best most you do does did must may might
""")
"""After these words, `please` is not only polite."""

PROTECTED: Final = LANGUAGES | _words("""
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
    trillion dozen half quarter first second third fourth fifth sixth seventh eighth ninth tenth never without
    neither nobody nothing none cannot against before after above below under over inside outside monday tuesday
    wednesday thursday friday saturday sunday january february march april june july august september october
    november december today tomorrow yesterday inch inches metre metres meter meters litre litres liter liters
    gram grams ounce ounces pound pounds mile miles yard yards acre acres minute minutes hour hours seconds
    month months years degrees percent celsius fahrenheit kelvin dollar dollars euros cents rupees plus minus
    times divided equal equals greater smaller larger maximum minimum least fewer north south east west left
    right male female women woman
""")
"""Numbers, negations, days, units, languages and operators. They must be equal; even a typo in them is not accepted."""

NAMING: Final = _words("""
    install import pip npm npx yarn brew apt package packages library module named called name names nickname
    username user password brand company startup product mr mrs ms dr prof by word words letter term spell
    define mean app website domain email file command function variable column table class method translate say
    drug medicine medication band singer actor
""")
"""The word after one of these may be a name, even if it looks like a typo."""

QUANTITIES: Final = _words("number couple majority minority lot few most rest bit pair one event end")
DEFINITE: Final = QUANTITIES | _words("""
    little dozen hundred thousand million billion while matter time times force right rights good goods change
    second minute moment more past present future church state states point life mind depression recession
    economist guardian office world gold iron glass paper light dark cold heat fast left wrong general public
    private major minor novel reason living truth press city house court crown cloud cure police rock band wire
    crow circle giver hobbit matrix fall flood ring rings beatles doors eagles queen whole better best same
    other another only first last next kind sort type form part piece case term terms question letter word
    people woman child table function return value values power study practice beer coffee wine death love fear
    peace nation east west north south lead mean means rule rules cost pill pope president bill will fine mass
    gram fire accident crash crisis incident disaster collapse election revolution movement plague famine
    genocide bombing attack murder strike protest riot revolt split bubble boom panic problem issue error delay
    conflict battle treaty agreement contract deal game match party race film movie book series song story poem
    play show company king poor rich elderly young blind deaf sick dead homeless unemployed school hospital
    prison jail college university home town market meeting report document email message article picture image
    text passage team class project
""")
"""Nouns whose meaning depends on the article: `what is the matter` and `what is matter`."""

I_BEFORE: Final = _words("""
    do did can could should would will must may might am if when that what and because where how why have as so
    but than while which before after until
""")
I_AFTER: Final = _words("""
    am have had need want do did can could should would will was use think like know feel get
""")
"""Next to these words, a capital `I` is the pronoun, not a numeral."""

OF_THE_SURFACE: Final = _words("""
    spell spells spelled spelling spellings misspell misspells misspelled misspelt misspelling misspellings
    spelt typo typos typed rhyme rhymes rhymed rhyming punctuate punctuated punctuation comma commas apostrophe
    apostrophes hyphen hyphens hyphenate hyphenated semicolon semicolons anagram anagrams palindrome palindromes
    palindromic syllable syllables vowel vowels consonant consonants plural plurals pluralize singular
    contraction contractions homophone homophones homonym homonyms letters character characters pronounce
    pronounced pronunciation alphabetical alphabetically alphabetic alphabetize abbreviate abbreviated
    abbreviation abbreviations acronym acronyms grammar grammatical grammatically proofread proofreading
    verbatim echo transcribe transcribed transcription transliterate transliteration uppercase lowercase
    titlecase camelcase capitalize capitalise capitalized capitalised capitalization capitalisation ascii base64
    encode encoded encoding decode decoded decoding encrypt encrypted encryption decrypt decrypted decryption
    cipher hash hashed md5 sha1 sha256 sha512 checksum regex regexp tokenize tokenise tokenized count counts
    counted counting correction corrections corrected autocorrect misprint orthography wording worded
""")
"""A text with one of these words may be about how it is written."""
PERHAPS_OF_THE_SURFACE: Final = _words("""
    case capital caps tense many proof complete finish continue correct fix edit diagram reverse repeat sort
    split join concatenate format indent error errors mistake mistakes wrong improve writing english text which
    right article letter word words check review grade mark score rate evaluate language
""")

NAMES_TOO: Final = _words("""
    access acts alphabet amazon apple block bloom bologna bridge brave canvas chrome cell cologne crest dart delta
    discord dodge dove drake edge excel express fiddler flash flask ford fortune fox galaxy gap gem go graves
    guardian heath holland hunter independent intel java jordan julia kindle life lincoln lisp meta miles mint
    mirror nature notion numbers office opal oracle opera outlook pandas people perl phoenix pixel polish postman
    puma python rails react ruby rust safari scala science shell signal slack spark square steam stripe subway sun
    surface swift target teams tide time tinder twitter unity visa vogue windows wired wolves word zoom
""")
"""Words that are also names. Their capital may change the meaning, wherever they stand."""
TYPED_SMALL: Final = _words("holland japan julia lincoln perl python scala twitter")
"""Names that are often typed without a capital, and rarely mean anything else."""
