"""gfp_mask in words. Pure.

Since Linux 4.6 the kernel writes the words itself. Before, the meaning of the number depends on the release:
include/linux/gfp.h of 2.6.32 to 4.3 (with __GFP_WAIT), and of 4.4 and 4.5 (with __GFP_DIRECT_RECLAIM). Older masks
aren't put into words."""

import re

_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,4})")
_UNTIL_4_3 = {
    0x1: "__GFP_DMA",
    0x2: "__GFP_HIGHMEM",
    0x4: "__GFP_DMA32",
    0x8: "__GFP_MOVABLE",
    0x10: "__GFP_WAIT",
    0x20: "__GFP_HIGH",
    0x40: "__GFP_IO",
    0x80: "__GFP_FS",
    0x100: "__GFP_COLD",
    0x200: "__GFP_NOWARN",
    0x400: "__GFP_REPEAT",
    0x800: "__GFP_NOFAIL",
    0x1000: "__GFP_NORETRY",
    0x4000: "__GFP_COMP",
    0x8000: "__GFP_ZERO",
    0x10000: "__GFP_NOMEMALLOC",
    0x20000: "__GFP_HARDWALL",
    0x40000: "__GFP_THISNODE",
    0x80000: "__GFP_RECLAIMABLE",
}
_UNTIL_4_5 = {
    0x1: "__GFP_DMA",
    0x2: "__GFP_HIGHMEM",
    0x4: "__GFP_DMA32",
    0x8: "__GFP_MOVABLE",
    0x10: "__GFP_RECLAIMABLE",
    0x20: "__GFP_HIGH",
    0x40: "__GFP_IO",
    0x80: "__GFP_FS",
    0x100: "__GFP_COLD",
    0x200: "__GFP_NOWARN",
    0x400: "__GFP_REPEAT",
    0x800: "__GFP_NOFAIL",
    0x1000: "__GFP_NORETRY",
    0x2000: "__GFP_MEMALLOC",
    0x4000: "__GFP_COMP",
    0x8000: "__GFP_ZERO",
    0x10000: "__GFP_NOMEMALLOC",
    0x20000: "__GFP_HARDWALL",
    0x40000: "__GFP_THISNODE",
    0x80000: "__GFP_ATOMIC",
    0x100000: "__GFP_ACCOUNT",
    0x200000: "__GFP_NOTRACK",
    0x400000: "__GFP_DIRECT_RECLAIM",
    0x1000000: "__GFP_WRITE",
    0x2000000: "__GFP_KSWAPD_RECLAIM",
}
_NAMED_UNTIL_4_3 = (
    *((0x200DA, "GFP_HIGHUSER_MOVABLE"), (0x200D2, "GFP_HIGHUSER"), (0x200D0, "GFP_USER")),
    *((0xD0, "GFP_KERNEL"), (0x50, "GFP_NOFS"), (0x10, "GFP_NOIO")),
)
_NAMED_UNTIL_4_5 = (
    *((0x24200CA, "GFP_HIGHUSER_MOVABLE"), (0x24200C2, "GFP_HIGHUSER"), (0x24200C0, "GFP_USER")),
    *((0x24000C0, "GFP_KERNEL"), (0x2400040, "GFP_NOFS"), (0x2400000, "GFP_NOIO")),
)

_MEANING = (
    ("GFP_HIGHUSER", "for a program"),
    ("GFP_USER", "for a program"),
    ("GFP_TRANSHUGE", "for a program's huge page"),
    ("GFP_KERNEL", "for the kernel"),
    ("GFP_NOFS", "for a file system"),
    ("GFP_NOIO", "for a block device"),
    ("GFP_DMA", "for a device, in low memory"),
)


def in_words(mask: str, logged: str | None, kernel: str | None) -> str | None:
    """The mask's flags as the kernel names them. `mask`: as logged ("0xd0"); `logged`: its words, if the log has them;
    `kernel`: the release. None where it isn't certain."""
    if logged is not None:
        return logged
    number = int(mask, 16)
    release = None if kernel is None else _RELEASE.match(kernel)
    if number == 0 or release is None:
        return None
    version = int(release[1]), int(release[2])
    if version >= (4, 6) or version < (2, 6):
        return None
    old = version < (4, 4)
    flags, named = (_UNTIL_4_3, _NAMED_UNTIL_4_3) if old else (_UNTIL_4_5, _NAMED_UNTIL_4_5)
    words = []
    for bits, name in named:
        if number & bits == bits:
            words, number = [name], number & ~bits
            break
    for bit, name in flags.items():
        if number & bit:
            words.append(name)
            number &= ~bit
    return None if number else "|".join(words)


def purpose(words: str | None, mask: str) -> str | None:
    """What the memory was for, in a few words."""
    if int(mask, 16) == 0:
        return "a page fault that an earlier failure ended"
    return next((meaning for name, meaning in _MEANING if words is not None and words.startswith(name)), None)
