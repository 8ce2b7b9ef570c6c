/* Which process events reach the daemon: a filter on the socket of the proc connector (drivers/connector/cn_proc.c).
 *
 * The connector sends an event from the task that the event is about; a fork event from the task that forks. So the
 * current task is that one here. An event that the filter doesn't understand passes: it may let through too much, never
 * too little.
 *
 * exec_filter.py loads this file and writes the maps. Both sides must agree on the structures below. */
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define PASS 0xffffffff
#define DROP 0

/* include/uapi/linux/cn_proc.h */
#define PROC_EVENT_NONE 0x00000000u
#define PROC_EVENT_FORK 0x00000001u
#define PROC_EVENT_EXEC 0x00000002u
#define PROC_EVENT_UID 0x00000004u
#define PROC_EVENT_GID 0x00000040u
#define PROC_EVENT_COMM 0x00000200u
#define PROC_EVENT_EXIT 0x80000000u

/* Offsets in a datagram: struct nlmsghdr (16), struct cn_msg (20), struct proc_event. */
#define WHAT 36
#define DATA 52

/* The kernel's own structures, as far as they are read. The loader adapts the offsets to the running kernel. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr { const unsigned char *name; };
struct dentry { struct qstr d_name; };
struct vfsmount { struct dentry *mnt_root; };
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file { struct path f_path; };
struct mm_struct { struct file *exe_file; };
typedef struct { int counter; } atomic_t;
struct signal_struct { atomic_t live; };
typedef struct { unsigned int val; } kuid_t;
typedef struct { unsigned int val; } kgid_t;
struct cred { kuid_t uid; kgid_t gid; };
struct task_struct {
	int tgid;
	struct mm_struct *mm;
	const struct cred *cred;
	char comm[16];
	struct signal_struct *signal;
};
#pragma clang attribute pop

struct settings {
	__u32 kinds;      /* the kinds of events that may pass, PROC_EVENT_* */
	__u32 everything; /* whether they pass for all processes */
};

struct comm_key {
	__u32 bits;
	char comm[16];
};

struct id_key {
	__u32 is_group;
	__u32 id;
};

struct member {
	__u32 maker;  /* PID of the process that forked it; 0: not known */
	__u32 origin; /* the daemon's number of the node that it is or descends from; 0: not known */
	__u32 hear;   /* the kinds of its events that pass, PROC_EVENT_* */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

/* Whether a process could not be added to the table, because the table was full or memory was short. Then all events
 * pass. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} full SEC(".maps");

/* Names of executables, without directories, cut after 63 bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, char[64]);
	__type(value, __u8);
} names SEC(".maps");

/* Task names, and beginnings of task names. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct comm_key);
	__type(value, __u8);
} comms SEC(".maps");

/* Real user and group ids. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct id_key);
	__type(value, __u8);
} ids SEC(".maps");

#ifndef MEMBERS
#define MEMBERS 65536
#endif

/* The tracked processes, and their descendants. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMBERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct member);
} members SEC(".maps");

static __always_inline void enter(__u32 tgid, const struct member *member)
{
	__u32 zero = 0, yes = 1;

	if (bpf_map_update_elem(&members, &tgid, member, BPF_ANY))
		bpf_map_update_elem(&full, &zero, &yes, BPF_ANY);
}

static __always_inline int comm_wanted(const char *comm)
{
	struct comm_key key = { .bits = 128 };

	__builtin_memcpy(key.comm, comm, sizeof(key.comm));
	return bpf_map_lookup_elem(&comms, &key) != NULL;
}

static __always_inline int id_wanted(__u32 is_group, __u32 id)
{
	struct id_key key = { is_group, id };

	return bpf_map_lookup_elem(&ids, &key) != NULL;
}

static __always_inline int exe_wanted(struct task_struct *task)
{
	char name[64] = {};
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct dentry *dentry;

	if (!file)
		return 1;
	dentry = BPF_CORE_READ(file, f_path.dentry);
	/* The path of a file that is mounted over another file doesn't end with the file's own name. */
	if (dentry == BPF_CORE_READ(file, f_path.mnt, mnt_root))
		return 1;
	if (bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name)) < 0)
		return 1;
	return bpf_map_lookup_elem(&names, name) != NULL;
}

static __always_inline int program_wanted(struct task_struct *task)
{
	char comm[16] = {};

	BPF_CORE_READ_INTO(&comm, task, comm);
	return comm_wanted(comm) || exe_wanted(task) ||
	       id_wanted(0, BPF_CORE_READ(task, cred, uid.val)) || id_wanted(1, BPF_CORE_READ(task, cred, gid.val));
}

static __always_inline int forked(struct task_struct *task, __u32 child)
{
	/* Not the parent that the event names: with CLONE_PARENT that is the parent of the maker. */
	__u32 maker = BPF_CORE_READ(task, tgid);
	struct member *member = bpf_map_lookup_elem(&members, &maker);
	struct member fresh = {};

	if (!member) {
		bpf_map_delete_elem(&members, &child); /* the entry of a process that had this PID before */
		return 0;
	}
	fresh.maker = maker;
	fresh.origin = member->origin;
	fresh.hear = member->hear;
	enter(child, &fresh);
	return fresh.hear & PROC_EVENT_FORK;
}

static __always_inline int ended(struct task_struct *task, __u32 tgid)
{
	struct member *member = bpf_map_lookup_elem(&members, &tgid);
	__u32 heard;

	if (!member || BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0; /* other threads of the process live */
	heard = member->hear & PROC_EVENT_EXIT;
	bpf_map_delete_elem(&members, &tgid);
	return heard != 0;
}

SEC("socket")
int exec_filter(struct __sk_buff *skb)
{
	struct member fresh = { .hear = ~0u }, *member;
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 what, zero = 0, words[4] = {}, *is_full;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	int wanted, everything;

	/* words: pid and tgid; in a fork event those of the parent, then those of the child. An ACK is as long as an event. */
	if (!set || bpf_skb_load_bytes(skb, WHAT, &what, sizeof(what)) ||
	    bpf_skb_load_bytes(skb, DATA, words, sizeof(words)) || what == PROC_EVENT_NONE)
		return PASS;
	if (!(what & set->kinds))
		return DROP;
	is_full = bpf_map_lookup_elem(&full, &zero);
	everything = set->everything || (is_full && *is_full);
	if (what == PROC_EVENT_FORK) {
		if (words[2] != words[3])
			return DROP; /* a thread */
		return forked(task, words[2]) || everything ? PASS : DROP;
	}
	if (what == PROC_EVENT_EXIT)
		return ended(task, words[1]) || (everything && words[0] == words[1]) ? PASS : DROP;
	if (what != PROC_EVENT_EXEC && words[0] != words[1])
		return DROP; /* the name or the IDs of a thread */

	member = bpf_map_lookup_elem(&members, &words[1]);
	if (what == PROC_EVENT_EXEC)
		wanted = program_wanted(task);
	else if (what == PROC_EVENT_COMM) {
		char comm[16] = {};

		/* The name in the event, not that of the task: another thread may have changed the name of the first one. */
		wanted = bpf_skb_load_bytes(skb, DATA + 8, comm, sizeof(comm)) || comm_wanted(comm);
	} else
		wanted = id_wanted(what == PROC_EVENT_GID, words[2]);
	if (wanted) {
		if (member) {
			fresh.maker = member->maker;
			fresh.origin = member->origin;
		}
		enter(words[1], &fresh);
		return PASS;
	}
	return everything || (member && (member->hear & what)) ? PASS : DROP;
}

/* The helper functions that read the kernel's memory require a licence that is compatible with the kernel's. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
