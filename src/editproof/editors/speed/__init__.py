"""Speed and memory of editors; nothing outside editors needs to read it."""
