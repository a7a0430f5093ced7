# The host's clock, in milliseconds since 1970.
# By perl, which Debian and Ubuntu cannot do without: not every date(1) knows %3N.
perl -MTime::HiRes=time -e 'printf "%d\n", 1000 * time'
