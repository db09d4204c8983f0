"""Writes fixtures/skills.json: held-out prompts of every skill with the exact answers."""
import json
import pathlib

import data

ABOUT = "Held-out prompts of V4-mini, 200 a skill: rendered text and the exact answer. Written by mini/fixtures.py."
PROMPTS = 200

if __name__ == "__main__":
    skills = {skill: data.held_out(skill, PROMPTS) for skill in data.SKILLS}
    path = pathlib.Path(__file__).parent.parent / "fixtures" / "skills.json"
    path.write_text(json.dumps(dict(about=ABOUT, skills=skills), ensure_ascii=False, indent=0) + "\n")
