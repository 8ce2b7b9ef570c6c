# What scdoc's pages still need. It turns hyphenation off before .TH, which turns it on again; and a plain - is a hyphen,
# at which lines are broken and which a terminal copies as another character than the one to type.
/^\.TH /a\
.nh\
.ad l
/^[^.]/s/-/\\-/g
