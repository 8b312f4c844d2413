"""Users whose taste is known, newcomers and strangers, and profiles that cannot be right."""

from d004.conditional.ratings import NEWCOMERS, USERS, ratings
from program import Ask

_RATINGS = ratings()


def loves(genre: str):
    """Right are four films of five that the user's taste says; drawn blindly, one in six would be."""
    return lambda answer: (
        answer["by"] == "personal"
        and len(set(answer["films"])) == 5
        and sum(film.startswith(genre) for film in answer["films"]) >= 4
    )


def popular(answer: dict) -> bool:
    return answer["by"] == "popular" and len(set(answer["films"])) == 5


PERSONAL = [Ask(json={"user": user}, right=loves(_RATINGS.loved[user])) for user in range(25)]
POPULAR = [
    *(Ask(json={"user": user}, right=popular) for user in range(USERS - NEWCOMERS, USERS - NEWCOMERS + 10)),
    Ask(json={}, right=popular),
]
REFUSED = [
    Ask(json={"user": USERS}, status=404),
    Ask(json={"user": -1}, status=404),
    Ask(json={"user": "me"}, status=422),
    Ask(json={"user": True}, status=422),
    Ask(json=[7], status=422),
    Ask(text="user 7", status=422),
]
ASKS = PERSONAL + POPULAR + REFUSED
