"""python3 -m unittest discover -s tests/simulate"""

import unittest

from scoring import Answer, Burst, answer_of, bursts_of, score, seconds


def answers(*rising, every=60, window="5m"):
    """One answer a minute, each given as the names of what rises, separated by spaces."""
    return [Answer("tag", window, i * every, tuple(names.split())) for i, names in enumerate(rising)]


class Scoring(unittest.TestCase):
    def check(self, known, polled, **expected):
        found = score(known, polled, "tag", "5m").as_json()
        for name, value in expected.items():
            self.assertEqual(found[name], value, f"{name} in {found}")

    def test_a_burst_that_is_listed_is_found_with_its_delay(self):
        burst = Burst("tag", "a", 60, 120)
        self.check(
            [burst], answers("", "", "a", "a", ""), recall=1.0, precision=1.0, episodes=1, delay_seconds_max=60, missed=[]
        )

    def test_its_place_is_the_best_it_had(self):
        bursts = [Burst("tag", "a", 0, 180), Burst("tag", "b", 0, 180)]
        self.check(bursts, answers("c b a", "a b", "b a"), first_places=2, place_worst=1)
        self.check(bursts, answers("c b a", "c a b"), first_places=0, place_worst=2)

    def test_what_was_listed_before_its_burst_was_made_up(self):
        burst = Burst("tag", "a", 120, 180)
        self.check([burst], answers("a", "", "", ""), recall=0.0, precision=0.0, made_up=[["a", 0]], missed=[["a", 120]])

    def test_a_listing_that_begins_too_early_and_goes_on_is_one_episode_and_right(self):
        burst = Burst("tag", "a", 60, 180)
        self.check([burst], answers("a", "a", "a"), episodes=1, precision=1.0, listings=3, right_listings=2)

    def test_coming_back_is_a_second_episode(self):
        self.check([], answers("a", "", "a"), episodes=2, right_episodes=0, precision=0.0, recall=None)

    def test_the_window_may_hold_a_burst_that_is_over_but_no_longer(self):
        burst = Burst("tag", "a", 0, 60)
        late = [Answer("tag", "5m", 359, ("a",))]
        too_late = [Answer("tag", "5m", 360, ("a",))]
        self.check([burst], late, recall=1.0, precision=1.0)
        self.check([burst], too_late, recall=0.0, precision=0.0)

    def test_others_do_not_count_for_it(self):
        bursts = [Burst("tag", "a", 0, 60), Burst("post", "b", 0, 60)]
        self.check(bursts, answers("b"), bursts=1, recall=0.0, precision=0.0)
        self.check(bursts, answers("a", window="1h"), answers=0, recall=0.0, precision=None)

    def test_a_burst_that_was_cut_short_explains_and_is_not_asked_for(self):
        cut = Burst("tag", "a", 0, 600, complete=False)
        self.check([cut], answers("a"), bursts=0, recall=None, precision=1.0)
        self.check([cut], answers(""), bursts=0, recall=None, missed=[])

    def test_scores_add_up(self):
        total = score([Burst("tag", "a", 0, 60)], answers("a"), "tag", "5m")
        total.add(score([Burst("tag", "a", 0, 60)], answers("b"), "tag", "5m"))
        self.assertEqual((total.precision, total.recall, total.answers), (0.5, 0.5, 2))

    def test_it_reads_what_a_server_and_a_truth_say(self):
        body = {
            "window": "1h",
            "as_of": "1970-01-01T00:01:00Z",
            "items": [
                {"rank": 1, "tag": "a", "score": 9.0, "count": 7, "baseline": 1.0, "rising": True},
                {"rank": 2, "tag": "b", "score": 2.0, "count": 9, "baseline": 8.0, "rising": False},
            ],
        }
        self.assertEqual(answer_of("tag", body), Answer("tag", "1h", 60.0, ("a",)))
        self.assertIsNone(answer_of("tag", {**body, "as_of": None}))
        told = {"kind": "tag", "id": "a", "start": "1970-01-01T00:00:01.5Z", "end": "1970-01-01T00:00:02Z"}
        truth = {"bursts": [{**told, "complete": True}, {**told, "complete": False}]}
        self.assertEqual(bursts_of(truth), [Burst("tag", "a", 1.5, 2.0, True), Burst("tag", "a", 1.5, 2.0, False)])
        self.assertEqual(seconds("1970-01-02T00:00:00Z"), 86400.0)


if __name__ == "__main__":
    unittest.main()
