"""What the models are asked. The answers differ in form: prose, lists, dialogue, a letter, code, other languages."""

from __future__ import annotations

from typing import Final

PROMPTS: Final = (
    "Tell a short story about a clockmaker who could not sleep.",
    "Explain to a child why the sea is salty.",
    "Write a letter to a neighbour who plays the drums at night.",
    "List ten things to pack for a weekend in the mountains, with a reason for each.",
    "Describe an old railway station in the early morning.",
    "How does bread rise? Answer in two paragraphs.",
    "Write numbered instructions for planting a tomato.",
    "Write a dialogue between a baker and a customer who wants only half a loaf.",
    "Write a Python function that counts the vowels in a text, with a docstring.",
    "Summarise the history of the postage stamp.",
    "Compare trains and cars for a journey of three hundred kilometres.",
    "Write a poem of four stanzas about rain on a tin roof.",
    "Give a recipe for vegetable soup with a list of ingredients and steps.",
    "Write the opening speech of a small museum of umbrellas.",
    "Make a markdown table of five rivers with the country and the length of each.",
    "Why do cats purr? Give three explanations.",
    "Write a review of a hotel with a very friendly dog.",
    "Écris un petit paragraphe sur un marché au printemps.",
    "Schreibe einen kurzen Absatz über einen Spaziergang im Herbst.",
    "Count from one to thirty in words, separated by commas.",
    "Write a song about a ferry, with a refrain after each verse.",
    "Answer four frequent questions about keeping bees.",
    "Invent a legend that explains why the moon changes its shape.",
    "Describe the first day of a young teacher in a village school.",
)
