"""What is lost, and how long it takes to recover, when something around the server or in it fails.

Each fault is a function: it makes something fail, waits, and puts it right again. `measure` lets callers talk
with a real server meanwhile, and compares what they were told with what is stored.
"""
