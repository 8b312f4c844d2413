"""The documents that are searched: short texts on many subjects, written for this example."""

DOCUMENTS = [
    (
        1,
        "The sun is a star. It formed about 4.6 billion years ago and turns hydrogen into helium in its core.",
    ),
    (2, "The moon needs 27 days to go around the earth. The same side of it always faces us."),
    (3, "Jupiter is the largest planet. Its red spot is a storm that is wider than the earth."),
    (4, "Bread is baked from flour, water, salt and yeast. Yeast makes the gas that lets dough rise."),
    (5, "Cheese is made of milk. An enzyme called rennet makes the milk curdle."),
    (6, "Coffee beans are the seeds of a fruit. They are roasted at about 200 degrees."),
    (
        7,
        "Green tea leaves are steamed soon after they are picked. Black tea leaves are left to oxidise first.",
    ),
    (8, "The heart of an adult beats 60 to 100 times a minute at rest. It pumps about five litres of blood."),
    (9, "Bones store calcium. A grown human has 206 bones."),
    (10, "Bats find their way by echoes of their own cries. They are the only mammals that truly fly."),
    (11, "Honey bees tell each other where flowers are by a dance. A hive has one queen."),
    (12, "Whales breathe air through a blowhole. The blue whale is the heaviest animal that has ever lived."),
    (13, "Trees make a ring of wood every year. Counting the rings of a trunk tells its age."),
    (14, "Steel is iron with a little carbon. Chromium is added so that it does not rust."),
    (15, "Glass is made by melting sand. Soda lowers the temperature at which the sand melts."),
    (16, "Concrete hardens because cement reacts with water. It does not need to dry for that."),
    (17, "A bicycle stays upright because its rider steers into each fall. Brakes turn motion into heat."),
    (18, "A sailing boat can travel against the wind by tacking. Its keel keeps it from drifting sideways."),
    (
        19,
        "The printing press with movable type came to Europe around 1450. Johannes Gutenberg built it in Mainz.",
    ),
    (20, "The steam engine was improved by James Watt. His separate condenser saved most of the fuel."),
    (21, "A piano has 88 keys. Each key makes a felt hammer strike the strings."),
    (22, "A violin has four strings. They are tuned in fifths and played with a bow of horsehair."),
    (
        23,
        "Chess is played on 64 squares. A game ends when a king is checkmated or the players agree to a draw.",
    ),
    (24, "A marathon is 42.195 kilometres long. The distance was fixed after the London games of 1908."),
]
