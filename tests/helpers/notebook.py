"""What a report writes, read back."""


def numbers(folder):
    """result.txt as {section: {name: text}}."""
    sections = {}
    for line in (folder / "result.txt").read_text().splitlines():
        if line.startswith("["):
            section = sections[line[1:-1]] = {}
        elif line:
            name, _, text = line.partition(" = ")
            section[name] = text
    return sections
