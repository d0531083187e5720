"""Polled lists of what rises against the bursts that a simulated history is known to hold. Knows no server and no clock.

A *listing* is one item that was marked as rising in one answer. Listings of one thing in answers that follow each other are an
*episode*: somebody who watches the list sees it come and go once. A listing is right when a burst of that thing goes on or
ended less than one window ago, for until then the window still holds it. Precision is the share of episodes with a right
listing; recall the share of bursts with one; the delay of a burst is the time from its start to the first answer that lists it.

Its place is the best one it had among what was marked as rising, 1 for the first.

Precision says most about tags, which are used at a steady rate when they do not burst. Every new post rises from nothing by itself,
is noticed and forgotten, so many listings of posts are right without any burst that was planted: of posts look at recall, delay and
place.
"""

import collections
import datetime

WINDOW_SECONDS = {"5m": 300, "1h": 3600, "24h": 86400}

# `rising`: the names of what was marked as rising, best first.
Answer = collections.namedtuple("Answer", "kind window as_of rising")
# One that is not complete was cut short by the end of the history: listing it is right, missing it is not wrong.
Burst = collections.namedtuple("Burst", "kind id start end complete", defaults=[True])


def seconds(text):
    """An RFC 3339 time in UTC as seconds since 1970."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def answer_of(kind, body):
    """An answer of `/v1/trends/{kind}s`; None when the server had nothing to answer from yet."""
    if body["as_of"] is None:
        return None
    name = {"tag": "tag", "post": "post_id"}[kind]
    rising = tuple(item[name] for item in body["items"] if item["rising"])
    return Answer(kind, body["window"], seconds(body["as_of"]), rising)


def bursts_of(truth):
    """The bursts of a truth."""
    return [
        Burst(burst["kind"], burst["id"], seconds(burst["start"]), seconds(burst["end"]), burst["complete"])
        for burst in truth["bursts"]
    ]


class Score:
    """What was found, what was missed and what was made up; adds up over seeds."""

    def __init__(self):
        self.bursts = 0
        self.found = 0
        self.episodes = 0
        self.right_episodes = 0
        self.listings = 0
        self.right_listings = 0
        self.answers = 0
        self.delays = []
        self.places = []
        self.missed = []
        self.made_up = []

    def add(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def precision(self):
        return self.right_episodes / self.episodes if self.episodes else None

    @property
    def recall(self):
        return self.found / self.bursts if self.bursts else None

    def as_json(self):
        delays, places = sorted(self.delays), sorted(self.places)
        return {
            "bursts": self.bursts,
            "found": self.found,
            "episodes": self.episodes,
            "right_episodes": self.right_episodes,
            "listings": self.listings,
            "right_listings": self.right_listings,
            "answers": self.answers,
            "precision": self.precision,
            "recall": self.recall,
            "delay_seconds_median": delays[len(delays) // 2] if delays else None,
            "delay_seconds_max": delays[-1] if delays else None,
            "first_places": places.count(1),
            "place_worst": places[-1] if places else None,
            "missed": self.missed,
            "made_up": self.made_up,
        }


def score(bursts, answers, kind, window):
    """Scores the answers about one kind of thing (tag or post) over one window."""
    bursts = [burst for burst in bursts if burst.kind == kind]
    answers = sorted((a for a in answers if a.kind == kind and a.window == window), key=lambda answer: answer.as_of)
    result = Score()
    result.bursts = sum(burst.complete for burst in bursts)
    result.answers = len(answers)
    tail = WINDOW_SECONDS[window]

    def explains(burst, item, as_of):
        return burst.id == item and burst.start <= as_of < burst.end + tail

    first_listed, best_place = {}, {}
    episodes = {}  # item -> [first as_of, is right], while it goes on
    ended = []
    for answer in answers:
        for item in [item for item in episodes if item not in answer.rising]:
            ended.append((item, *episodes.pop(item)))
        for place, item in enumerate(answer.rising, 1):
            right = [burst for burst in bursts if explains(burst, item, answer.as_of)]
            result.listings += 1
            result.right_listings += bool(right)
            episode = episodes.setdefault(item, [answer.as_of, False])
            episode[1] = episode[1] or bool(right)
            for burst in right:
                first_listed.setdefault(burst, answer.as_of)
                best_place[burst] = min(place, best_place.get(burst, place))
    ended.extend((item, *episode) for item, episode in episodes.items())
    result.episodes = len(ended)
    result.right_episodes = sum(right for _, _, right in ended)
    result.made_up = [[item, as_of] for item, as_of, right in ended if not right]
    for burst in filter(lambda burst: burst.complete, bursts):
        if burst in first_listed:
            result.found += 1
            result.delays.append(first_listed[burst] - burst.start)
            result.places.append(best_place[burst])
        else:
            result.missed.append([burst.id, burst.start])
    return result
