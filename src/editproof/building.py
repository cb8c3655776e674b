"""Networks are built one at a time: while diffusers and transformers load one, they change how every other is made.

They turn a switch of torch.nn for the whole process, so that a network that another thread makes meanwhile comes out
without memory (meta tensors), and where two load at once it may stay so for good.
"""

import threading

ONE_AT_A_TIME = threading.RLock()  # held by whoever builds or loads networks
