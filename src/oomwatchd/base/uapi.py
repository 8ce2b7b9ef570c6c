"""Constants of the kernel that programs may rely on (include/uapi), each under the kernel's name. Pure."""

OOM_SCORE_ADJ_MIN = -1000
"""include/uapi/linux/oom.h: the OOM killer never takes a process with this value."""
OOM_SCORE_ADJ_MAX = 1000
"""include/uapi/linux/oom.h."""
OOM_DISABLE = -17
"""include/uapi/linux/oom.h: the value of the old oom_adj that means OOM_SCORE_ADJ_MIN."""
OOM_ADJUST_MAX = 15
"""include/uapi/linux/oom.h: the largest value of the old oom_adj, which means OOM_SCORE_ADJ_MAX."""
TASK_COMM_LEN = 16
"""include/linux/sched.h: bytes of a task's name, the NUL at its end among them."""
COMM_MAX = TASK_COMM_LEN - 1
"""Bytes that a task's name can have."""
# include/uapi/linux/capability.h.
CAP_DAC_OVERRIDE = 1
CAP_NET_ADMIN = 12
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_SYSLOG = 34
