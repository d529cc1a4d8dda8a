"""Tweets of the sample: put together from templates and three lexicons, about the props of a scene.

The sentiment of a tweet lies in the words of its lexicon alone; of the scene it knows only the props. Writes no files.
"""

from collections.abc import Sequence

from sentifuse.data.dice import Dice

# Words of one lexicon occur in no other and in no template.
LEXICONS: dict[str, dict[str, tuple[str, ...]]] = {
    "positive": {
        "adjective": ("happy", "great", "lovely", "wonderful", "beautiful", "amazing", "perfect", "sweet"),
        "verb": ("love", "enjoy", "adore"),
        "noun": ("joy", "smile", "fun", "luck"),
        "tag": ("#happy", "#love", "#joy", "#smile"),
    },
    "negative": {
        "adjective": ("sad", "awful", "terrible", "horrible", "angry", "ugly", "lonely", "bad"),
        "verb": ("hate", "fear", "regret"),
        "noun": ("pain", "grief", "anger", "shame"),
        "tag": ("#sad", "#hate", "#pain", "#angry"),
    },
    "neutral": {
        "adjective": ("usual", "plain", "local", "daily", "common", "ordinary", "regular", "typical"),
        "verb": ("see", "pass", "note"),
        "noun": ("work", "traffic", "size", "number"),
        "tag": ("#today", "#news", "#monday", "#update"),
    },
}
PLACES = ("the corner", "the old mill", "our street", "the north road", "the harbour", "the station", "the field")
TIMES = ("this morning", "at noon", "on the way home", "after lunch", "around four", "tonight")
NAMES = ("anna_k", "mr_tom", "LeaWrites", "citybus42", "jo_park", "TheDailyWalk", "sam1987", "northside")
TEMPLATES = (
    "one {adjective} day by the {thing}, so much {noun} {time}",
    "{time} we were at the {thing} near {place}: {adjective} and {adjective2}",
    "I {verb} that {thing} at {place}. {noun} all day",
    "the {thing} {time} - {adjective}, I {verb} it",
    "{noun} and {noun2} {time}, and then the {thing} by {place}",
    "look at this {adjective} {thing} near {place}, we {verb} it here",
    "my {adjective} {thing} {time}. what {noun}, one {adjective2} week",
)
CUT_ENDS = ("…", " htt…", " http:/…", " http://t…")  # tweets were cut at 140 characters


def compose_tweet(sentiment: str, props: Sequence[tuple[str, str]], dice: Dice) -> str:
    """One tweet of this sentiment about one of the `props`, with mentions, tags, links and cut ends."""
    lexicon = LEXICONS[sentiment]
    colour, name = dice.pick(props)
    first, second = dice.pick_some(lexicon["adjective"], 2)
    nouns = dice.pick_some(lexicon["noun"], 2)
    tweet = dice.pick(TEMPLATES).format(
        adjective=first,
        adjective2=second,
        noun=nouns[0],
        noun2=nouns[1],
        verb=dice.pick(lexicon["verb"]),
        thing=f"{colour} {name}" if dice.chance(0.7) else name,
        place=dice.pick(PLACES),
        time=dice.pick(TIMES),
    )
    if dice.chance(0.3):
        tweet = f"@{dice.pick(NAMES)} {tweet}"
    if dice.chance(0.7):
        tweet += " " + " ".join(dice.pick_some(lexicon["tag"], 1 + dice.below(2)))
    if dice.chance(0.3):
        tweet += f" #{name}"
    if dice.chance(0.1):
        tweet += " ????"  # an emoji that did not survive
    if dice.chance(0.4):
        tweet += " http://t.co/" + "".join(dice.pick("abcdefghijkmnopqrstuvwxyz0123456789") for _ in range(8))
    elif dice.chance(0.3):
        tweet += dice.pick(CUT_ENDS)
    if dice.chance(0.35):
        tweet = f"RT @{dice.pick(NAMES)}: {tweet}"
    return tweet
