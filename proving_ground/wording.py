"""Every word that a world may use. `{}` is replaced by the operand.

The phrases of `PAIRS` and `TABLES`, worlds of the second protocol, use words of the others only: a new word would be a
new token, and the models of the first four worlds would no longer be the ones whose results are published.
"""

LETTERS = "abcdefgh"
"""Letters of the strings; no word of a phrase consists of these alone."""

STRINGS: dict[str, tuple[str, ...]] = {
    "reverse": ("reverse {}", "write backwards {}", "turn around {}", "from the end {}"),
    "sort": ("sort {}", "order the letters of {}", "arrange {}", "alphabetically {}"),
    "rotate": ("rotate {}", "move left {}", "roll once {}", "first letter last {}"),
    "next": ("shift {}", "raise by one {}", "next letters after {}", "successors of {}"),
    "once": ("dedupe {}", "every letter once {}", "without repeats {}", "drop doubles from {}"),
    "swap": ("swap {}", "exchange the ends of {}", "trade ends in {}", "outside changed {}"),
    "second": ("thin {}", "every second letter of {}", "skip through {}", "by twos {}"),
    "consonants": ("devowel {}", "remove vowels from {}", "without vowels {}", "only consonants of {}"),
    "outer": ("outline {}", "the outer letters of {}", "both ends of {}", "from either side {}"),
    "count": ("measure {}", "how long is {}", "length of {}", "count {}"),
}
"""Skill of the world of strings → its four phrases."""

SUMS = ("{}", "compute {}", "what is {}", "work out {}", "evaluate {}", "result of {}")
OPERATORS = {"+": ("plus", "and"), "-": ("minus", "less"), "*": ("times", "by"), "%": ("mod", "rem")}
"""Operator → its plain word, and another."""

FACTS: dict[str, tuple[str, ...]] = {
    "home": ("where does {} live", "home of {}", "town of {}", "which town houses {}", "{} lives in"),
    "trade": ("what does {} do", "trade of {}", "job of {}", "which job has {}", "{} works as"),
    "dish": ("what does {} eat", "dish of {}", "food for {}", "which dish likes {}", "{} dines on"),
    "colour": ("what does {} wear", "colour of {}", "shade of {}", "which colour suits {}", "{} dresses in"),
    "beast": ("what does {} keep", "beast of {}", "animal of {}", "which beast follows {}", "{} walks a"),
    "tune": ("what does {} sing", "tune of {}", "song of {}", "which tune moves {}", "{} hums the"),
}
"""Relation of the knowledge base → its five phrases."""

PAIRS: dict[str, tuple[str, ...]] = {
    "joined": ("{} and {}", "write {} and {}", "{} next {}", "{} by {}"),
    "twined": ("turn {} and {}", "trade {} and {}", "{} through {}", "by twos {} and {}"),
    "common": ("both {} and {}", "letters of {} in {}", "every letter in {} and {}", "{} in {}"),
    "without": ("{} without {}", "{} less {}", "only {} without {}", "{} outside {}"),
    "either": ("either {} or {}", "{} or {}", "dedupe {} and {}", "every letter once {} and {}"),
    "sorted": ("sort {} and {}", "order {} and {}", "arrange {} and {}", "alphabetically {} and {}"),
    "raised": ("raise {} by {}", "shift {} by {}", "move {} by {}", "successors of {} by {}"),
    "later": ("last of {} and {}", "last letter {} or {}", "how long is {} or {}", "measure {} and {}"),
}
"""Skill of the world of pairs → its four phrases, of two strings."""

TABLES: dict[str, tuple[str, ...]] = {
    "value": ("what is {}", "what does {}", "work out {}", "say {}"),
    "back": ("write backwards {}", "reverse {}", "turn around {}", "from the end {}"),
    "after": ("what is after {}", "next after {}", "shift {}", "move {}"),
    "total": ("compute {}", "result of {}", "how long is {}", "measure {}"),
    "largest": ("last of {}", "only the last of {}", "which is last {}", "the end of {}"),
    "key": ("which is {}", "letters of {}", "which suits {}", "which letter has {}"),
}
"""Skill of the world of lookups → its four phrases; the table follows."""

OPENINGS = ("", "please", "say", "quickly", "hello", "now")
FIRST = [
    "mira",
    "joss",
    "tarn",
    "velm",
    "oris",
    "pell",
    "quin",
    "ruva",
    "sorn",
    "timo",
    "ulla",
    "vark",
    "wynn",
    "xeno",
    "yara",
    "zoll",
    "mosk",
    "lorn",
    "nils",
    "pruk",
    "rist",
    "silv",
    "toma",
    "urso",
]
LAST = [
    "holt",
    "kirn",
    "lutz",
    "morr",
    "nost",
    "ostry",
    "prin",
    "quoll",
    "rusk",
    "stam",
    "trow",
    "ulm",
    "vost",
    "wirt",
    "xander",
    "yorn",
    "zimm",
    "tolk",
    "siff",
    "rorke",
]
STRANGERS = ("nobody", "noone", "stranger", "unborn")
BLANK = "_"
"""Replaces a missing operand."""

WORDS = tuple(
    sorted(
        {
            word
            for phrase in (
                *(phrase for phrases in (*STRINGS.values(), *FACTS.values()) for phrase in phrases),
                *SUMS,
                *(word for words in OPERATORS.values() for word in words),
                *OPENINGS,
                *FIRST,
                *LAST,
                *STRANGERS,
                "or",
            )
            for word in phrase.split()
            if word != "{}"
        }
    )
)
