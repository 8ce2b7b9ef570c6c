# Runs one command after the other for the test, over a serial line. perl-base is on every Debian and starts at once.
#
# A frame, either way: "OWD1", length, checksum (sum of the bytes modulo 2^32), both little endian, then the bytes.
# In: time limit in seconds (u32) and a bash script. Each 2 KiB of a frame's bytes is acknowledged by "a", because
# a tty that overflows drops input in silence. Out: exit status (u32, 128 + signal), length of stdout, both outputs.
use strict;
use warnings;
use POSIX ();

$SIG{PIPE} = 'IGNORE';
my ($path) = @ARGV;
open(my $tty, '+<:raw', $path) or die "$path: $!";
system('stty', '-F', $path, 'raw', '-echo') == 0 or die 'stty';

# The kernel's clock, since the wall clock may step. clock_gettime isn't in perl-base.
sub uptime {
    open(my $file, '<', '/proc/uptime') or die $!;
    return (split ' ', <$file>)[0];
}

sub receive {
    my ($length) = @_;
    my $bytes = '';
    while (length($bytes) < $length) {
        my $count = sysread($tty, $bytes, $length - length($bytes), length($bytes));
        die 'the line is closed' unless $count;
    }
    return $bytes;
}

sub transmit {
    my ($bytes) = @_;
    my $offset = 0;
    while ($offset < length($bytes)) {
        my $count = syswrite($tty, $bytes, length($bytes) - $offset, $offset);
        die "write: $!" unless defined $count;
        $offset += $count;
    }
}

sub send_frame {
    my ($bytes) = @_;
    transmit('OWD1' . pack('VV', length($bytes), unpack('%32C*', $bytes)) . $bytes);
}

sub receive_frame {
    my ($length, $sum) = unpack('x4VV', receive(12));
    my $bytes = '';
    while (length($bytes) < $length) {
        my $rest = $length - length($bytes);
        $bytes .= receive($rest < 2048 ? $rest : 2048);
        transmit('a');
    }
    die 'checksum' unless unpack('%32C*', $bytes) == $sum;
    return $bytes;
}

sub slurp {
    my ($name) = @_;
    open(my $file, '<:raw', $name) or return '';
    local $/;
    my $bytes = <$file>;
    return defined $bytes ? $bytes : '';
}

sub execute {
    my ($limit, $script) = @_;
    open(my $file, '>:raw', '/run/vm-agent.sh') or die $!;
    print $file $script;
    close($file);
    my $pid = fork();
    die "fork: $!" unless defined $pid;
    if ($pid == 0) {
        POSIX::setsid();
        # The agent outlives every OOM. What it starts is like what anybody starts.
        open(my $adj, '>', '/proc/self/oom_score_adj');
        syswrite($adj, '0');
        close($adj);
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>', '/run/vm-agent.out');
        open(STDERR, '>', '/run/vm-agent.err');
        $ENV{HOME} = '/root';
        $ENV{PATH} = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
        chdir '/root';
        exec('/bin/bash', '/run/vm-agent.sh') or POSIX::_exit(127);
    }
    my $deadline = uptime() + $limit;
    my $pause = 0.005;
    while (waitpid($pid, POSIX::WNOHANG()) == 0) {
        if (uptime() > $deadline) {
            kill('KILL', -$pid);
            waitpid($pid, 0);
            return pack('VV', 124, length(slurp('/run/vm-agent.out')))
              . slurp('/run/vm-agent.out') . slurp('/run/vm-agent.err') . "timed out after $limit s in the VM\n";
        }
        select(undef, undef, undef, $pause);
        $pause *= 1.5 if $pause < 0.1;
    }
    my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    my $out = slurp('/run/vm-agent.out');
    return pack('VV', $status, length($out)) . $out . slurp('/run/vm-agent.err');
}

send_frame('ready');
while (1) {
    my ($limit, $script) = unpack('Va*', receive_frame());
    send_frame(execute($limit, $script));
}
