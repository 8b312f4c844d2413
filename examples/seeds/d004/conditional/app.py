"""The conditional pattern: the driver looks at a user's profile and chooses the model that recommends films.

cd examples/seeds && eagleray run d004.conditional.app:app
curl --json '{"user": 7}' localhost:8000
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from d004.conditional.ratings import FILMS, GENRES, USERS, ratings
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

SHOWN = 5
KNOWN_FROM = 10  # ratings: below, a profile says less than what everybody likes


@serve.deployment
class PersonalModel:
    """Collaborative filtering: the ratings of all users, factorised into as many factors as there are genres."""

    def __init__(self) -> None:
        stars = ratings().stars
        given = stars > 0
        means = stars.sum(axis=1) / given.sum(axis=1)
        centred = np.where(given, stars - means[:, None], 0)
        users, weights, films = np.linalg.svd(centred, full_matrices=False)
        kept = slice(len(GENRES))
        self.scores = np.where(given, -math.inf, users[:, kept] * weights[kept] @ films[kept])
        self.calls = 0

    def __call__(self, user: int) -> list[str]:
        self.calls += 1
        return [FILMS[film] for film in np.argsort(-self.scores[user], kind="stable")[:SHOWN]]

    def count_calls(self) -> int:
        return self.calls


@serve.deployment
class PopularModel:
    """The films with the best mean rating that the user has not rated yet."""

    def __init__(self) -> None:
        self.stars = ratings().stars
        means = self.stars.sum(axis=0) / (self.stars > 0).sum(axis=0)
        self.order = np.argsort(-means, kind="stable")
        self.calls = 0

    def __call__(self, user: int | None) -> list[str]:
        self.calls += 1
        return [FILMS[film] for film in self.order if user is None or not self.stars[user, film]][:SHOWN]

    def count_calls(self) -> int:
        return self.calls


@serve.deployment
class Recommender:
    """Decides in plain Python which model is worth calling. A profile that cannot be right costs no model's time."""

    def __init__(self, personal: DeploymentHandle, popular: DeploymentHandle) -> None:
        self.personal, self.popular = personal, popular
        self.rated = (ratings().stars > 0).sum(axis=1)

    async def __call__(self, request: Request) -> Any:
        if request.method == "GET":
            calls = {
                "personal": self.personal.count_calls.remote(),
                "popular": self.popular.count_calls.remote(),
            }
            return {name: await count for name, count in calls.items()}
        try:
            profile = await request.json()
        except ValueError:
            return PlainTextResponse("The profile is not JSON.", 422)
        user = profile.get("user") if isinstance(profile, dict) else ""
        if user is not None and type(user) is not int:  # True and False are of type bool
            return PlainTextResponse('A profile is {"user": NUMBER}, or {} for a stranger.', 422)
        if user is not None and not 0 <= user < USERS:
            return PlainTextResponse(
                f"There is no user {user}: they are numbered from 0 to {USERS - 1}.", 404
            )
        if user is not None and self.rated[user] >= KNOWN_FROM:
            return {"by": "personal", "films": await self.personal.remote(user)}
        return {"by": "popular", "films": await self.popular.remote(user)}


app = Recommender.bind(PersonalModel.bind(), PopularModel.bind())
