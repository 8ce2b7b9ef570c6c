# What scdoc's pages still need. It turns hyphenation off before .TH, which turns it on again; and a plain - is a hyphen,
# at which lines are broken and which a terminal copies as another character than the one to type. A line that begins with
# \h moves the bullet of a list; its - is none to type.
/^\.TH /a\
.nh\
.ad l
/^\\h/b
/^[^.]/s/-/\\-/g
