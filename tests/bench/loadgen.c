/* Load generator: commands, event loop, clock and reports. See loadgen.h.
 *
 * Reads one command a line, `name key=value ...`, and answers each with one line of JSON. Held
 * connections are served (pings, pushes) while it waits for the next command. A mistake in a
 * command ends the process with a message on standard error: the caller is a program.
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_OPTIONS 32
#define READY_AT_ONCE 512
#define MARKER "bench-"
#define MARKER_DIGITS 8

struct received received;

static int epoll_fd;

/* ---- clock and loop ---------------------------------------------------------------------- */

static nanoseconds read_clock(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t) != 0)
        return 0;
    return (nanoseconds)t.tv_sec * NS_PER_S + (nanoseconds)t.tv_nsec;
}

nanoseconds now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static void control(int operation, struct link *link, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = link};
    if (epoll_ctl(epoll_fd, operation, link->fd, &event) != 0)
        fail("epoll_ctl");
}

void loop_add(struct link *link, uint32_t interest)
{
    control(EPOLL_CTL_ADD, link, interest);
}

void loop_change(struct link *link, uint32_t interest)
{
    control(EPOLL_CTL_MOD, link, interest);
}

void loop_remove(struct link *link)
{
    control(EPOLL_CTL_DEL, link, 0);
}

bool loop_until(bool (*done)(void), nanoseconds deadline)
{
    struct epoll_event ready[READY_AT_ONCE];
    while (!done()) {
        nanoseconds now = now_ns(), next = deadline;
        if (now >= deadline)
            return false;
        nanoseconds due = mqtt_tick(now);
        next = due < next ? due : next;
        due = http_tick(now);
        next = due < next ? due : next;
        due = publish_tick(now);
        next = due < next ? due : next;
        /* Rounded down: the last millisecond before a write is spun, so that writes are on time. */
        nanoseconds wait_ms = next > now ? (next - now) / NS_PER_MS : 0;
        int limit_ms = wait_ms > 1000 ? 1000 : (int)wait_ms;
        int count = epoll_wait(epoll_fd, ready, READY_AT_ONCE, limit_ms);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct link *link = ready[i].data.ptr;
            link->on_ready(link, ready[i].events);
        }
    }
    return true;
}

/* ---- commands ---------------------------------------------------------------------------- */

static struct {
    struct link link;
    char line[8192];
    size_t used;
    bool at_end;
    char *names[MAX_OPTIONS];
    char *values[MAX_OPTIONS];
    size_t options;
} command;

void fail(const char *what)
{
    if (errno != 0)
        fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "loadgen: %s\n", what);
    exit(1);
}

const char *option(const char *name, const char *fallback)
{
    for (size_t i = 0; i < command.options; i++)
        if (strcmp(command.names[i], name) == 0)
            return command.values[i];
    if (fallback == NULL) {
        errno = 0;
        fprintf(stderr, "loadgen: option %s is missing\n", name);
        exit(1);
    }
    return fallback;
}

long number(const char *name, long fallback)
{
    const char *text = option(name, "");
    if (*text == '\0')
        return fallback;
    char *end;
    long value = strtol(text, &end, 10);
    if (*end != '\0') {
        errno = 0;
        fail(name);
    }
    return value;
}

struct sockaddr_in address_option(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons((uint16_t)number("port", 0));
    errno = 0;
    if (inet_pton(AF_INET, option("host", "127.0.0.1"), &address.sin_addr) != 1)
        fail("host must be an IPv4 address");
    return address;
}

static bool has_line(void)
{
    return command.at_end || memchr(command.line, '\n', command.used) != NULL;
}

static void read_commands(struct link *link, uint32_t ready)
{
    (void)ready;
    ssize_t got = read(link->fd, command.line + command.used, sizeof command.line - command.used);
    if (got <= 0)
        command.at_end = true;
    else
        command.used += (size_t)got;
}

static void split_options(char *text)
{
    command.options = 0;
    for (char *word; (word = strsep(&text, " ")) != NULL;) {
        char *equals = strchr(word, '=');
        if (equals == NULL || command.options == MAX_OPTIONS)
            continue;
        *equals = '\0';
        command.names[command.options] = word;
        command.values[command.options++] = equals + 1;
    }
}

static bool never(void)
{
    return false;
}

static void reset_command(void)
{
    begin_run();
    report_begin("reset");
    report_end();
}

static void wait_command(void)
{
    report_begin("wait");
    end_run(NULL);
    report_end();
}

static void run_command(char *line)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } commands[] = {
        {"connect", mqtt_connect_devices}, {"disconnect", mqtt_disconnect_devices},
        {"hold", mqtt_hold},               {"stall", mqtt_stall},
        {"publish", mqtt_publish},         {"http", http_send},
        {"reset", reset_command},          {"wait", wait_command},
    };
    char *name = strsep(&line, " ");
    split_options(line);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0) {
            commands[i].run();
            return;
        }
    errno = 0;
    fail("unknown command");
}

/* ---- events ------------------------------------------------------------------------------ */

static struct {
    nanoseconds *sent;
    nanoseconds *accepted;
    size_t count;
    struct arrival {
        uint32_t index;
        nanoseconds at;
    } * arrivals;
    size_t arrived;
    size_t room;
} events;

void events_begin(size_t count)
{
    free(events.sent);
    free(events.accepted);
    events.sent = calloc(count + 1, sizeof *events.sent);
    events.accepted = calloc(count + 1, sizeof *events.accepted);
    events.count = count;
    events.arrived = 0;
}

void event_sent(size_t index, nanoseconds at)
{
    if (index < events.count && events.sent[index] == 0)
        events.sent[index] = at;
}

void event_accepted(size_t index, nanoseconds at)
{
    if (index < events.count)
        events.accepted[index] = at;
}

void event_arrived(const uint8_t *payload, size_t size, nanoseconds at)
{
    if (events.count == 0)
        return;
    const char *found = memmem(payload, size, MARKER, sizeof MARKER - 1);
    if (found == NULL || found + sizeof MARKER - 1 + MARKER_DIGITS > (const char *)payload + size)
        return;
    uint32_t index = 0;
    for (size_t i = 0; i < MARKER_DIGITS; i++)
        index = index * 10 + (uint32_t)(found[sizeof MARKER - 1 + i] - '0');
    if (index >= events.count)
        return;
    if (events.arrived == events.room) {
        events.room = events.room == 0 ? 65536 : 2 * events.room;
        events.arrivals = realloc(events.arrivals, events.room * sizeof *events.arrivals);
    }
    events.arrivals[events.arrived++] = (struct arrival){index, at};
}

static void report_latency(const char *name, const nanoseconds *since)
{
    nanoseconds *samples = malloc((events.arrived + 1) * sizeof *samples);
    size_t count = 0;
    for (size_t i = 0; i < events.arrived; i++) {
        struct arrival arrival = events.arrivals[i];
        nanoseconds start = since[arrival.index];
        /* A push may overtake the answer to its own write: it then took no time at all. */
        if (start != 0)
            samples[count++] = arrival.at > start ? arrival.at - start : 0;
    }
    report_quantiles(name, samples, count);
    free(samples);
}

/* ---- runs -------------------------------------------------------------------------------- */

static struct {
    nanoseconds began;
    nanoseconds cpu_began;
    clockid_t cpu_clock;
    bool has_cpu;
    uint64_t expected;
    bool (*sent)(void);
} run;

void begin_run(void)
{
    memset(&received, 0, sizeof received);
    mqtt_begin_run();
    events_begin(0);
    long pid = number("pid", 0);
    run.has_cpu = pid != 0 && clock_getcpuclockid((pid_t)pid, &run.cpu_clock) == 0;
    run.cpu_began = run.has_cpu ? read_clock(run.cpu_clock) : 0;
    run.began = now_ns();
}

static bool run_done(void)
{
    return received.pushes >= run.expected && (run.sent == NULL || run.sent());
}

void end_run(bool (*sent)(void))
{
    run.expected = (uint64_t)number("expect", 0);
    run.sent = sent;
    nanoseconds limit = (nanoseconds)number("timeout", 60) * NS_PER_S;
    bool in_time = loop_until(run_done, now_ns() + limit);
    nanoseconds ended = now_ns();
    /* A push that comes twice comes late, so look for it before counting. And the kernel brings
     * another process's clock up to date only when that process sleeps. */
    loop_until(never, ended + (nanoseconds)number("settle_ms", 20) * NS_PER_MS);
    if (run.has_cpu)
        report_number("server_cpu_s", (double)(read_clock(run.cpu_clock) - run.cpu_began) / 1e9);
    report_number("in_time", in_time);
    report_number("seconds", (double)(ended - run.began) / 1e9);
    mqtt_report();
    if (events.arrived != 0) {
        report_latency("sent_to_received_ms", events.sent);
        report_latency("accepted_to_received_ms", events.accepted);
    }
}

/* ---- reports ----------------------------------------------------------------------------- */

void report_begin(const char *name)
{
    printf("{\"command\":\"%s\"", name);
}

void report_number(const char *name, double value)
{
    printf(",\"%s\":%.9g", name, value);
}

void report_text(const char *name, const char *text, size_t size)
{
    printf(",\"%s\":\"", name);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static int compare_ns(const void *left, const void *right)
{
    nanoseconds a = *(const nanoseconds *)left, b = *(const nanoseconds *)right;
    return (a > b) - (a < b);
}

static double quantile_ms(const nanoseconds *sorted, size_t count, double share)
{
    return (double)sorted[(size_t)((double)(count - 1) * share)] / 1e6;
}

void report_quantiles(const char *name, nanoseconds *samples, size_t count)
{
    if (count == 0)
        return;
    qsort(samples, count, sizeof *samples, compare_ns);
    printf(",\"%s\":{\"count\":%zu,\"p50\":%.6g,\"p95\":%.6g,\"p99\":%.6g,\"max\":%.6g}", name,
           count, quantile_ms(samples, count, 0.5), quantile_ms(samples, count, 0.95),
           quantile_ms(samples, count, 0.99), quantile_ms(samples, count, 1.0));
}

void report_end(void)
{
    puts("}");
    fflush(stdout);
}

int main(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    command.link = (struct link){.fd = STDIN_FILENO, .on_ready = read_commands};
    loop_add(&command.link, EPOLLIN);
    while (loop_until(has_line, NEVER)) {
        char *end = memchr(command.line, '\n', command.used);
        if (end == NULL)
            return 0;
        char line[sizeof command.line];
        size_t size = (size_t)(end - command.line);
        memcpy(line, command.line, size);
        line[size] = '\0';
        command.used -= size + 1;
        memmove(command.line, end + 1, command.used);
        run_command(line);
    }
    return 0;
}
