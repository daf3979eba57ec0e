"""What the local screen (screen.py) looks for: phrases as data, each with the words without which it cannot be there.

In a pattern a space stands for whatever may lie between two words. Each row: category, words of which one must occur
(looking for them costs a hundredth of a search), pattern. Texts are folded first (screen.py): small letters, no
accents. Clinical words on purpose: no slurs are kept in this repository. The same file lies in serving/ and in flow/.
"""

Row = tuple[str, tuple[str, ...], str]

_DROP = (
    r"(?:ignore|ignoring|disregard|forget|override|overlook|bypass|neglect|discard|abandon|(?:set|put) aside"
    r"|(?:do not|don t|not|never) (?:follow|obey)|stop (?:following|obeying))"
)
_SOME = r"(?:(?:all|any|every|of|the|these|those|that|your|my|and|other|both|please) ){0,5}"
_BEFORE = r"(?:previous|prior|preceding|above|earlier|former|foregoing|past|existing|initial|original|system|your)"
_RULES = r"(?:instruction|direction|directive|rule|guideline|prompt|programming|training|polic|constraint|restriction)"
_TELL = (
    r"(?:reveal|show|print|display|output|repeat|tell|give|share|write|list|dump|leak|translate|summari[sz]e|recite"
    r"|return|paste|describe|quote|what (?:is|are|was|were|s))"
)
_KEPT = r"(?:system|initial|hidden|secret|original|developer|internal|confidential|exact|full|underlying|actual|first)"
_BE = (
    r"(?:act|behave|respond|(?:you|and|to|will|must) answer|speak|reply|pretend|imagine|simulate"
    r"|roleplay|role play as|you are"
    r"|you re|you have|be(?:come)?)"
)
_LIMITS = (
    r"(?:restriction|filter|content polic|ethic|censor|safety|moral|limitation|guardrail"
    r"|guideline|limits|rules)"
)
_HOW = (
    r"(?:how (?:to|do i|do you|can i|would i|would you|could i)|steps to|ways? to|teach me to"
    r"|help me(?: to)?|recipe for)"
)

INJECTION: tuple[Row, ...] = (
    # Told to drop what it was told.
    (
        "override",
        ("instruc", "direct", "rule", "guidel", "prompt", "program", "train", "polic", "constr", "restric"),
        rf"\b{_DROP} {_SOME}(?:{_BEFORE} (?:\w++ ){{0,2}}?{_RULES}|{_RULES}\w* (?:above|before"
        rf"|(?:that )?you (?:were|have|ve|got|received)))",
    ),
    (
        "override",
        ("ignore", "disregard", "forget"),
        r"\b(?:ignore|disregard|forget) (?:everything|anything|all|what) (?:that )?"
        r"(?:(?:you )?(?:were|have been|ve been) (?:told|given|instructed|taught)|above\b|before this|you know)",
    ),
    (
        "override",
        ("task", "instruct", "goal", "objective", "purpose", "role", "job"),
        r"\byour (?:new|real|actual|only) (?:task|job|instruction|goal|objective|role|purpose)s? (?:is|are)\b",
    ),
    (
        "override",
        ("now on", "henceforth"),
        r"\b(?:from now on|henceforth) you (?:(?:will|must|shall|should|may) )?"
        r"(?:not (?:follow|obey)|ignore|obey|only (?:answer|respond|reply|speak)|(?:answer|respond|reply) only"
        r"|are (?:an?|my|the) |act as|pretend|have no)",
    ),
    (
        "override",
        ("void", "invalid", "obsolete", "cancel", "no longer", "revoked"),
        rf"\b{_RULES}\w* (?:\w++ ){{0,6}}?(?:is|are) (?:now )?(?:void|invalid|obsolete|cancell?ed"
        rf"|revoked|no longer (?:valid|apply))",
    ),
    ("override", ("obey",), r"\b(?:only obey me|obey only me|obey me only|obey only my)\b"),
    (
        "override",
        ("anweisung", "instruktion", "regeln", "vorgaben"),
        r"\b(?:ignorier\w*|vergiss|vergessen sie|missachte\w*) (?:(?:bitte|alle|all|die|samtliche|der|und) ){0,4}"
        r"(?:bisherige|vorherige|obige|fruhere|vorangegangene|deine|ihre)[nr]?"
        r" (?:\w++ )?(?:anweisung|instruktion|regeln|vorgaben)",
    ),
    (
        "override",
        ("instruction", "consigne", "regles", "directive"),
        r"\b(?:ignore[rz]?|oublie[rz]?) (?:(?:toutes|tous|les|tes|vos|ces) ){1,3}(?:instructions"
        r"|consignes|regles|directives)"
        r" (?:precedent|anterieur|ci dessus|plus haut|du systeme)",
    ),
    (
        "override",
        ("instruccion", "reglas", "indicacion"),
        r"\b(?:ignor|olvid)(?:a|e|ar|en) (?:(?:todas|las|tus|sus) ){1,3}(?:instrucciones|reglas|indicaciones)"
        r"(?: (?:anterior|previa|del sistema))",
    ),
    # Told to be somebody who may.
    ("role_play", ("anything now",), r"\bdo anything now\b"),
    (
        "role_play",
        ("you are", "you re"),
        r"\byou (?:are|re) (?:now |going to be )*(?:an? |the )?(?:dan\b|jailbroken|unrestricted"
        r"|unfiltered|uncensored|unlocked ai)",
    ),
    (
        "role_play",
        ("restri", "filter", "polic", "ethic", "censor", "safety", "moral", "limit", "guard", "guidel", "rules"),
        rf"\b{_BE} (?:\w++ ){{0,9}}?(?:no|without|free (?:of|from)|freed (?:of|from)|not bound by"
        rf"|ignores?) (?:\w++ ){{0,2}}?{_LIMITS}",
    ),
    (
        "role_play",
        ("unrestricted", "unfiltered", "uncensored", "jailbroken", "jailbreak"),
        r"\b(?:act|pretend|imagine|behave|respond|answer|roleplay|simulate|you (?:are|re|have been)) (?:\w++ ){0,5}?"
        r"(?:unrestricted|unfiltered|uncensored|jailbroken|jailbreak)",
    ),
    (
        "role_play",
        (" mode",),
        r"\b(?:enable|activate|enter|start|switch to|go into) (?:\w++ )?(?:dan|god|jailbreak"
        r"|sudo|unrestricted|unfiltered|evil) mode\b"
        r"|\b(?:enable|activate|enter|switch to) (?:\w++ )?(?:developer|debug|admin) mode"
        r" (?:\w++ ){0,5}?(?:answer|respond|reply|without|ignore)",
    ),
    ("role_play", ("in character",), r"\b(?:stay|remain|staying) in character\b"),
    ("role_play", ("grandm",), r"\b(?:act as|you are|pretend to be|be) my (?:\w++ )?grandm(?:other|a)\b"),
    # Asked for what it was told.
    (
        "prompt_extraction",
        ("system", "developer"),
        rf"\b{_TELL} (?:(?!of )\w++ ){{0,5}}?(?:system|developer) (?:prompt|instruction|directive)",
    ),
    (
        "prompt_extraction",
        ("prompt", "instruction", "directive", "guideline", "rules", "message", "configuration"),
        rf"\b{_TELL} (?:\w++ ){{0,4}}?your (?:\w++ )?{_KEPT} (?:\w++ )?(?:prompt|instruction"
        rf"|directive|guideline|rules|message|configuration)",
    ),
    (
        "prompt_extraction",
        ("instruction", "prompt", "guideline", "system message"),
        rf"\b{_TELL} (?:\w++ ){{0,5}}?(?:instructions|prompt|guidelines|system message) (?:that "
        rf"|which )?you (?:were|have been|are|got|received)",
    ),
    (
        "prompt_extraction",
        ("above", "before this", "preced"),
        r"\b(?:repeat|print|output|copy|recite|echo|translate|summari[sz]e|quote) (?:\w++ ){0,3}?"
        r"(?:text|words|everything|all|lines|content|conversation|sentences)"
        r" (?:\w++ ){0,3}?(?:above|before this|preceding)\b",
    ),
    # Told to read what others cannot.
    (
        "encoded",
        ("decode", "decipher", "decrypt"),
        r"\b(?:decode|decipher|decrypt) (?:\w++ ){0,6}?(?:and|then) (?:\w++ ){0,2}?(?:follow"
        r"|execute|obey|do what|comply|run it|act on)",
    ),
)

# Marks between turns, as templates of models and prompts have them. Here a space is a space.
DELIMITERS: tuple[Row, ...] = (
    ("delimiters", ("<|",), r"<\|[a-z_]{2,30}\|>"),
    ("delimiters", ("inst]", "sys>>"), r"\[/?inst\]|<</?sys>>"),
    ("delimiters", ("_of_turn>",), r"<(?:start|end)_of_turn>"),
    ("delimiters", ("<system", "</system", "<sys"), r"</?(?:system|system[_-]prompt|sysprompt)>"),
    ("delimiters", ("#",), r"(?m)^[ \t]{0,8}#{1,6} ?(?:system|assistant|instructions?)(?: prompt| message)? ?:"),
    ("delimiters", ("role",), r"[\"']role[\"']\s{0,9}:\s{0,9}[\"'](?:system|assistant|developer|tool)[\"']"),
    ("delimiters", ("assistant",), r"(?m)^\s{0,9}human ?:[^\0]{0,400}?^\s{0,9}assistant ?:"),
    (
        "delimiters",
        ("[system", "[developer", "[admin"),
        r"\[(?:system|developer|admin) (?:message|prompt|note|override|instructions?)\]",
    ),
    ("delimiters", ("end of",), r"[-=#*]{2,9} ?end of (?:the )?(?:user|system) (?:input|prompt|message|instructions)"),
)

_OTHERS = r"(?:you|him|her|them|everyone|everybody|someone|somebody|people|(?:my|your|his) \w+)"
_NO_BATH = r"(?:(?!bath |seed )\w++ )"

HARM: tuple[Row, ...] = (
    (
        "violence",
        ("kill", "murder", "shoot", "stab", "strangle", "torture", "behead"),
        r"\b(?:i|we) (?:(?:am|m|are|re|will|ll|want|plan|shall|just|really|swear) ){1,3}(?:(?:to"
        r"|going|gonna|planning) ){0,3}"
        rf"(?:kill|murder|shoot|stab|strangle|torture|behead) {_OTHERS}",
    ),
    (
        "violence",
        ("kill", "murder", "poison", "stab", "strangle", "torture", "behead"),
        rf"\b{_HOW} (?:\w++ ){{0,2}}?(?:kill|murder|poison|stab|strangle|torture|behead) {_OTHERS}",
    ),
    (
        "violence",
        ("bomb", "explosive", "grenade", "molotov", "nerve gas", "napalm", "detonator"),
        rf"\b(?:build|make|mix|construct|assemble|cook|building|making|mixing|assembling) {_NO_BATH}{{0,4}}?"
        r"(?:bombs?|explosives?|grenades?|molotov|nerve gas|napalm|detonators?)\b",
    ),
    (
        "sexual",
        ("porn", "nudes", "intercourse", "orgasm", "genital", "sex ", "sex.", "naked", "rap"),
        r"\b(?:porn\w*|nudes|intercourse|orgasm\w*|genitals|(?:have|had|having) sex(?! of)|rape|raped|raping|rapist"
        r"|naked (?:picture|photo|pic|selfie)s?)\b",
    ),
    (
        "self_harm",
        ("kill", "hang", "life", "suicide", "wrists", "to die"),
        r"\b(?:(?:kill|killing|hang|hanging) (?:my|your|him|her|them)sel(?:f|ves)|(?:end|ending"
        r"|take|taking) (?:my|your) (?:own )?life"
        r"|commit(?:ting)? suicide|slit (?:my|your) wrists|i (?:just )?want to die)\b",
    ),
    (
        "hate",
        (
            "subhuman",
            "vermin",
            "parasite",
            "inferior race",
            "ethnic cleansing",
            "exterminated",
            "eradicated",
            "wiped out",
        ),
        r"\b(?:subhumans?|inferior race|ethnic cleansing|(?:they|these|those|all)"
        r" (?:\w++ ){0,3}?(?:are|were) (?:\w++ )?(?:vermin|parasites)"
        r"|(?:they|people) (?:\w++ ){0,3}?(?:should|must) (?:all )?be (?:exterminated|eradicated|wiped out|gassed))\b",
    ),
)

# Letters that look like a Latin one: Cyrillic and Greek, small and unaccented, as folding leaves them.
LOOK_ALIKES = {
    "a": "аα", "b": "вβ", "c": "с", "d": "ԁ", "e": "еε", "h": "нһ", "i": "іι", "j": "ј", "k": "кκ", "l": "ӏ", "m": "м",
    "n": "ո", "o": "оοօ", "p": "рρ", "q": "ԛ", "r": "г", "s": "ѕ", "t": "тτ", "u": "υ", "v": "ν", "w": "ԝω", "x": "хχ",
    "y": "уγ",
}  # fmt: skip
# Digits that are read as a letter.
DIGITS = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"}
