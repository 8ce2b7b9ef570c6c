"""Constants of the kernel that several modules need, each under the kernel's name and with the file that defines it.
Pure.

A constant that only one interface needs is in the module of that interface."""

OOM_SCORE_ADJ_MIN = -1000
"""include/uapi/linux/oom.h: the OOM killer never takes a process with this value."""
OOM_SCORE_ADJ_MAX = 1000
"""include/uapi/linux/oom.h."""
OOM_DISABLE = -17
"""include/uapi/linux/oom.h: the value of the old oom_adj that means OOM_SCORE_ADJ_MIN."""
OOM_ADJUST_MAX = 15
"""include/uapi/linux/oom.h: the largest value of the old oom_adj, which means OOM_SCORE_ADJ_MAX."""
TASK_COMM_LEN = 16
"""include/linux/sched.h: the size in bytes of a task's name, with the NUL at its end."""
COMM_MAX = TASK_COMM_LEN - 1
"""The most bytes that a task's name has, without the NUL."""
PF_EXITING = 0x00000004
"""include/linux/sched.h: the flag of a thread that is being ended. Soon after, it has no memory any more."""
PF_KTHREAD = 0x00200000
"""include/linux/sched.h: the flag of a kernel thread, in `flags` of /proc/PID/stat."""
PF_FORKNOEXEC = 0x00000040
"""include/linux/sched.h: the flag of a thread that has executed no program since it was forked."""
INITIAL_USER_NS = 0xEFFFFFFD
"""include/linux/proc_ns.h: the inode number of the initial user namespace, namespaces(7)."""
INITIAL_PID_NS = 0xEFFFFFFC
"""include/linux/proc_ns.h: the inode number of the initial PID namespace."""
# include/uapi/linux/capability.h.
CAP_DAC_OVERRIDE = 1
CAP_NET_ADMIN = 12
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_SYSLOG = 34
CAP_PERFMON = 38
CAP_BPF = 39
