"""Sentiment: embeddings by MiniLM, and a logistic regression over them that is trained on the sentences below."""

from __future__ import annotations

import asyncio
from typing import Any

from eagleray import serve
from models import minilm

POSITIVE = """
The festival was a joyful success and everyone went home happy.
The new bridge made life easier for the whole town.
She won the medal and was celebrated in her country.
The treatment cured most of the patients within a month.
Visitors admire the beauty of the garden in spring.
His kindness and good humour won him many friends.
The team was proud of its brilliant result.
The discovery opened a new field and earned a prize.
Farmers are grateful for the rich harvest.
Children love the playground and laugh all day.
The orchestra delighted its audience.
The invention is cheap, clean and useful to millions.
A generous gift paid for the new library.
The river is clear again and full of fish.
Volunteers rescued all the sailors, who are safe and well.
The two countries made peace and became good neighbours.
The vaccine has protected a generation of children.
The young composer was praised for her wonderful work.
The method works well and is used all over the world.
The school is popular and its pupils do well.
The astronauts returned safely to cheering crowds.
The city is famous for its music and its friendly people.
Students enjoy the course and learn quickly.
The forest has recovered and birds have come back.
It is an elegant idea that explains much with little.
The researchers solved an old problem together.
The restaurant serves delicious food at a fair price.
The new law gave workers better pay and more free time.
The scientist studied light and taught at the university.
The game is easy to learn and gives great pleasure.
The instrument measures the distance of the stars.
The animals live together in large groups and care for their young.
"""
NEGATIVE = """
The earthquake destroyed the town and killed thousands.
The company lied about the danger and people died.
The flood drowned the cattle and left families homeless.
The epidemic spread quickly and hospitals collapsed.
The war ruined the country and millions fled.
The crash of the bank cost many people their savings.
The ship sank and nobody was saved.
The film is dull, ugly and far too long.
The murder shocked the village and was never solved.
Prisoners were tortured and starved in the camp.
The harvest failed and the poor went hungry.
The explosion injured the workers terribly.
The bridge collapsed because the builders had been careless.
The oil spill poisoned the coast for years.
He cheated his friends and died alone and hated.
The disease causes great pain and there is no cure.
The fire burned down the whole street.
Fear and grief followed the attack.
The treatment failed and made the patients worse.
The regime crushed the protest with violence.
The corrupt mayor stole the money for the school.
The accident was the worst in the history of the railway.
The team lost badly and its fans were furious.
The factory fouled the river and killed the fish.
Greedy traders ruined honest people.
The plague emptied whole villages.
The drought turned fields to dust and people despaired.
The service was rude and the room was filthy.
The trial was unfair and an innocent man was hanged.
Orphans froze in the streets that winter.
The storm wrecked the harbour and buried people under the ruins.
The scandal destroyed the trust of the public.
"""


class SentimentModel:
    """Tells how positive texts are. One call of the network embeds all of them."""

    def __init__(self) -> None:
        # Takes more than a second, which only the processes that use it should need.
        from sklearn.linear_model import LogisticRegression

        self._minilm = minilm.load()
        positive, negative = POSITIVE.strip().splitlines(), NEGATIVE.strip().splitlines()
        labels = [1] * len(positive) + [0] * len(negative)
        self._regression = LogisticRegression(C=10).fit(self._minilm.encode(positive + negative), labels)

    def predict(self, texts: list[str]) -> list[float]:
        """For each text the probability, from 0 to 1, that it is positive."""
        found: Any = self._regression.predict_proba(self._minilm.encode(texts))
        return [round(float(probability), 4) for probability in found[:, 1]]


@serve.deployment(max_ongoing_requests=32)
class SentimentAnalysis:
    """Answers for up to 16 texts at a time; who calls does not see that."""

    def __init__(self) -> None:
        self.model = SentimentModel()
        self.largest_batch = 0

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def __call__(self, texts: list[str]) -> list[float]:
        self.largest_batch = max(self.largest_batch, len(texts))
        return await asyncio.to_thread(self.model.predict, texts)

    def get_largest_batch(self) -> int:
        return self.largest_batch
