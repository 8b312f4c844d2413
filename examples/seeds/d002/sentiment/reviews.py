"""Short reviews, written for this example: what the analyzer learns from, and others to try it on."""

GOOD = [
    "I love this phone, it is wonderful.",
    "The food was delicious and the staff was friendly.",
    "An excellent film, I laughed a lot.",
    "It works perfectly and was easy to set up.",
    "The best holiday we have ever had.",
    "Great quality for a fair price.",
    "The hotel was clean, quiet and comfortable.",
    "I am very happy with my new bicycle.",
    "She gave a brilliant performance.",
    "Fast delivery, and everything was as promised.",
    "A beautiful book that I could not put down.",
    "The support was helpful and solved my problem at once.",
    "What a pleasant surprise, highly recommended.",
    "The children enjoyed every minute of it.",
]
BAD = [
    "I hate this phone, it is terrible.",
    "The food was cold and the staff was rude.",
    "A boring film, I fell asleep.",
    "It never worked and was impossible to set up.",
    "The worst holiday we have ever had.",
    "Poor quality and far too expensive.",
    "The hotel was dirty, loud and uncomfortable.",
    "I am very disappointed with my new bicycle.",
    "She gave an awful performance.",
    "The delivery was late and half of it was missing.",
    "A dull book that I gave up on.",
    "The support was useless and ignored my problem.",
    "What a waste of money, stay away from it.",
    "The children complained every minute of it.",
]
UNSEEN = [
    ("This camera takes fantastic pictures.", "POSITIVE"),
    ("The battery died after one day, I want my money back.", "NEGATIVE"),
    ("Our guide was charming and knew everything.", "POSITIVE"),
    ("The soup tasted horrible.", "NEGATIVE"),
    ("A superb concert, we were thrilled.", "POSITIVE"),
    ("The app is awful and crashes all the time.", "NEGATIVE"),
    ("What a lovely evening, we had so much fun.", "POSITIVE"),
    ("The seats were broken and the room smelled bad.", "NEGATIVE"),
]
