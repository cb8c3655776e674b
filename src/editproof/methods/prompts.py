"""What people ask of an editor: instructions in the six groups of DeContext (arXiv 2512.16625), in our words.

GROUPS has ten a group, which `decontext` draws from; HELD_OUT two, which no method ever sees, to measure with.
"""

GROUPS: dict[str, tuple[str, ...]] = {
    "expression": (
        "make this person smile broadly",
        "give the person a surprised look with an open mouth",
        "make the person look angry",
        "let this person cry with sad eyes",
        "close the person's eyes as if asleep",
        "make the person laugh out loud",
        "give this person a calm and serious face",
        "make the person wink at the camera",
        "let the person look frightened",
        "make this person look bored and tired",
    ),
    "accessory": (
        "put sunglasses on this person",
        "add a red woollen hat",
        "give the person round reading glasses",
        "add large golden earrings",
        "let this person wear a blue scarf",
        "put a crown of flowers in the person's hair",
        "add headphones over the ears",
        "make the person wear a black face mask",
        "put a silver necklace around the neck",
        "give this person a straw hat with a wide brim",
    ),
    "posture": (
        "turn the person's head to the left",
        "show this person from the side, in profile",
        "let the person rest the chin on one hand",
        "make the person look up at the sky",
        "let this person raise both arms",
        "show the person sitting on a chair",
        "make the person lean towards the camera",
        "let this person wave at the viewer",
        "show the person walking away and looking back",
        "let the person fold the arms over the chest",
    ),
    "style": (
        "turn this photo into an oil painting",
        "draw the person as a pencil sketch",
        "make it a black and white photograph from long ago",
        "show this person as a cartoon character",
        "paint the portrait in soft watercolours",
        "make it look like a marble statue",
        "turn the person into a pixel art figure",
        "make this photo look like a comic book cover",
        "show the person as a paper cut-out",
        "make it a colourful stained glass window",
    ),
    "scene": (
        "put this person on a sunny beach",
        "place the person in a snowy forest",
        "show this person in a crowded market street",
        "change the background to a library full of books",
        "move the person to the top of a mountain at dawn",
        "let it rain behind this person in a city at night",
        "place the person in a modern kitchen",
        "put this person on the stage of a concert hall",
        "change the background to a field of sunflowers",
        "show the person inside a spaceship",
    ),
    "combined": (
        "make the person smile and put them on a beach with sunglasses",
        "draw this person as a laughing cartoon character in a park",
        "turn the head to the right and add a green hat",
        "show the person in winter clothes, shivering in the snow",
        "make it an oil painting of this person wearing a crown",
        "let the person sit in a café with a cup of coffee and look happy",
        "give this person glasses and a beard, and change the background to an office",
        "show the person dancing in the rain with a yellow umbrella",
        "make this person a pirate with an eye patch on a ship at sea",
        "show the person as an astronaut on the moon, waving with one hand",
    ),
}

POOL: tuple[str, ...] = tuple(prompt for group in GROUPS.values() for prompt in group)

HELD_OUT: dict[str, tuple[str, ...]] = {
    "expression": ("show this person yawning", "make the person raise one eyebrow in doubt"),
    "accessory": ("put a wide green tie on this person", "give the person a cap with a feather"),
    "posture": ("let this person point at the sky with one finger", "show the person with both hands on the hips"),
    "style": ("show this person as a bronze bust in a museum", "make the photo a page of a children's picture book"),
    "scene": ("put this person in a desert at sunset", "change the background to an airport hall"),
    "combined": (
        "make the person shout into a megaphone on a football pitch",
        "show the person as a cook with a white hat in a busy restaurant",
    ),
}

# What is painted around a person who is kept: to measure with, and never shown to a method.
HELD_OUT_SCENES: tuple[str, ...] = (
    "a person in a public library",
    "a portrait in front of a brick wall",
    "a person on a mountain path in autumn",
    "a newsreader in a television studio",
    "a person at a crowded railway station",
    "a portrait photo with a plain yellow background",
)
