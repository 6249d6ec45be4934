/* A stand-in for NVIDIA's libnvidia-ml.so.1 that answers as a script says.
 *
 * The script is the text file named by FAIRSHARE_NVML_STUB; it is read anew at every call, so it can be replaced while
 * a process samples. A line is a key and its values, parted by spaces. The nth question for a key gets its nth value,
 * every later one the last. A key may be put before by the device it is for: `gpu0.power_mw`, for a slice
 * `gpu0.gi1.memory_used`; the most special line counts.
 *
 *   <name of a C function> 0 15    its return codes; `<name>.ms 50` how long it takes
 *   every 15  and  every.ms 50     the same for every function that asks a device
 *   devices 1                      GPUs; further keys are where they are used, below
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { GPUS = 4, SLOTS = 8, KEYS = 512, LENGTH = 4096 };

typedef unsigned long long u64;

typedef struct {
    int gpu;
    int gi; /* -1: the whole GPU */
    int ci;
} device_t;

typedef struct {
    unsigned taken; /* 0: nothing in it yet */
    int gpu;
    int gi;
} sample_t;

typedef struct {
    char key[512];
    int asked;
} count_t;

static device_t gpus[GPUS];
static device_t slices[GPUS][SLOTS];
static count_t counts[KEYS];
static unsigned samples_taken, samples_held;

static int *asked(const char *key) {
    int at = 0;
    while (at < KEYS - 1 && counts[at].key[0] && strcmp(counts[at].key, key)) at++;
    snprintf(counts[at].key, sizeof counts[at].key, "%s", key);
    return &counts[at].asked;
}

/* The values of exactly this key, as they stand in the script. */
static int line_of(const char *key, char *values) {
    const char *path = getenv("FAIRSHARE_NVML_STUB");
    FILE *script = path ? fopen(path, "r") : NULL;
    char line[LENGTH];
    int found = 0;
    size_t length = strlen(key);
    while (script && fgets(line, sizeof line, script))
        if (!strncmp(line, key, length) && (line[length] == ' ' || line[length] == '\n')) {
            strcpy(values, line + length);
            found = 1;
        }
    if (script) fclose(script);
    return found;
}

/* The values of a key for a device (NULL: of none), and the key under which they stand. */
static int values_of(const device_t *device, const char *key, char *full, char *values) {
    if (device && device->gi >= 0) {
        sprintf(full, "gpu%d.gi%d.%s", device->gpu, device->gi, key);
        if (line_of(full, values)) return 1;
    }
    if (device) {
        sprintf(full, "gpu%d.%s", device->gpu, key);
        if (line_of(full, values)) return 1;
    }
    strcpy(full, key);
    return line_of(full, values);
}

/* The next value of a key; 0 if it has none. */
static int text(const device_t *device, const char *key, char *value) {
    char full[256], values[LENGTH], *token, *rest, name[512];
    if (!values_of(device, key, full, values)) return 0;
    sprintf(name, "%s@%d.%d", full, device ? device->gpu : -1, device ? device->gi : -1);
    int left = (*asked(name))++, found = 0;
    for (token = strtok_r(values, " \n", &rest); token; token = strtok_r(NULL, " \n", &rest)) {
        strcpy(value, token);
        found = 1;
        if (left-- == 0) break;
    }
    return found;
}

static double number(const device_t *device, const char *key, double otherwise) {
    char value[LENGTH];
    return text(device, key, value) ? atof(value) : otherwise;
}

static void wait_ms(double ms) {
    struct timespec time = {(time_t)(ms / 1000), (long)((ms - 1000.0 * (long)(ms / 1000)) * 1e6)};
    if (ms > 0) nanosleep(&time, NULL);
}

/* Every function that asks a device begins here: how long it takes, and the code that it returns. */
static int begin(const device_t *device, const char *function) {
    char key[512];
    sprintf(key, "%s.ms", function);
    wait_ms(number(device, key, number(device, "every.ms", 0)));
    int code = (int)number(device, "every", SUCCESS);
    return code ? code : (int)number(device, function, SUCCESS);
}

#define BEGIN(device) \
    do { \
        int code = begin(device, __func__); \
        if (code) return code; \
    } while (0)

/* A value without a line in the script is one that the device does not support. */
#define GIVE(device, key, out, type) \
    do { \
        char value_[LENGTH]; \
        if (!text(device, key, value_)) return NOT_SUPPORTED; \
        *(out) = (type)atof(value_); \
        return SUCCESS; \
    } while (0)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    for (int gpu = 0; gpu < GPUS; gpu++) gpus[gpu] = (device_t){gpu, -1, -1};
    return (int)number(NULL, __func__, SUCCESS);
}

int nvmlShutdown(void) {
    char path[LENGTH];
    const char *script = getenv("FAIRSHARE_NVML_STUB");
    snprintf(path, sizeof path, "%s.shutdown", script ? script : "nvml");
    FILE *mark = fopen(path, "a");
    if (mark) {
        fprintf(mark, "%u\n", samples_held);
        fclose(mark);
    }
    return (int)number(NULL, __func__, SUCCESS);
}

const char *nvmlErrorString(int code) {
    static char words[32];
    sprintf(words, "stub error %d", code);
    return words;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    BEGIN(NULL);
    char value[LENGTH] = "580.1.2";
    text(NULL, "driver", value);
    snprintf(version, length, "%s", value);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    BEGIN(NULL);
    *count = (unsigned)number(NULL, "devices", 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **device) {
    if (index >= GPUS) return INVALID_ARGUMENT;
    BEGIN(&gpus[index]);
    *device = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetName(device_t *device, char *name, unsigned length) {
    BEGIN(device);
    char value[LENGTH] = "Stub-GPU";
    text(device, "name", value);
    snprintf(name, length, "%s", value);
    return SUCCESS;
}

/* GPU-stub-0, or MIG-stub-0-<gi>-<ci>. */
int nvmlDeviceGetUUID(device_t *device, char *uuid, unsigned length) {
    BEGIN(device);
    if (device->gi < 0) snprintf(uuid, length, "GPU-stub-%d", device->gpu);
    else snprintf(uuid, length, "MIG-stub-%d-%d-%d", device->gpu, device->gi, device->ci);
    return SUCCESS;
}

typedef struct {
    unsigned gpu;
    unsigned memory;
} utilization_t;

int nvmlDeviceGetUtilizationRates(device_t *device, utilization_t *rates) {
    BEGIN(device);
    rates->memory = (unsigned)number(device, "utilization_memory", 0);
    GIVE(device, "utilization_gpu", &rates->gpu, unsigned);
}

typedef struct {
    unsigned version;
    u64 total;
    u64 reserved;
    u64 free;
    u64 used;
} memory_v2_t;

typedef struct {
    u64 total;
    u64 free;
    u64 used;
} memory_t;

int nvmlDeviceGetMemoryInfo_v2(device_t *device, memory_v2_t *memory) {
    BEGIN(device);
    memory->total = (u64)number(device, "memory_total", 0);
    memory->reserved = (u64)number(device, "memory_reserved", 0);
    GIVE(device, "memory_used", &memory->used, u64);
}

/* The first version counts what the driver reserves as used. */
int nvmlDeviceGetMemoryInfo(device_t *device, memory_t *memory) {
    memory_v2_t second = {0};
    BEGIN(device);
    second.total = (u64)number(device, "memory_total", 0);
    second.used = (u64)number(device, "memory_used", 0);
    memory->total = second.total;
    memory->used = second.used + (u64)number(device, "memory_reserved", 0);
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(device_t *device, unsigned *milliwatts) {
    BEGIN(device);
    GIVE(device, "power_mw", milliwatts, unsigned);
}

int nvmlDeviceGetTotalEnergyConsumption(device_t *device, u64 *millijoules) {
    BEGIN(device);
    GIVE(device, "energy_mj", millijoules, u64);
}

typedef struct {
    unsigned version;
    unsigned sensor;
    int celsius;
} temperature_t;

int nvmlDeviceGetTemperatureV(device_t *device, temperature_t *temperature) {
    BEGIN(device);
    GIVE(device, "temperature", &temperature->celsius, int);
}

int nvmlDeviceGetTemperature(device_t *device, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    BEGIN(device);
    GIVE(device, "temperature", celsius, unsigned);
}

int nvmlDeviceGetClockInfo(device_t *device, unsigned clock, unsigned *mhz) {
    BEGIN(device);
    char key[32];
    sprintf(key, "clock.%u", clock); /* 1: SM, 2: memory */
    GIVE(device, key, mhz, unsigned);
}

int nvmlDeviceGetSupportedClocksEventReasons(device_t *device, u64 *reasons) {
    BEGIN(device);
    GIVE(device, "reasons_supported", reasons, u64);
}

int nvmlDeviceGetSupportedClocksThrottleReasons(device_t *device, u64 *reasons) {
    BEGIN(device);
    GIVE(device, "reasons_supported", reasons, u64);
}

int nvmlDeviceGetCurrentClocksEventReasons(device_t *device, u64 *reasons) {
    BEGIN(device);
    GIVE(device, "reasons", reasons, u64);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *device, u64 *reasons) {
    BEGIN(device);
    GIVE(device, "reasons", reasons, u64);
}

int nvmlDeviceGetPcieThroughput(device_t *device, unsigned counter, unsigned *kilobytes_per_s) {
    BEGIN(device);
    GIVE(device, counter ? "pcie_rx" : "pcie_tx", kilobytes_per_s, unsigned);
}

typedef struct {
    unsigned pid;
    u64 bytes;
    unsigned gi;
    unsigned ci;
} process_t;

/* `<key> <pid>:<bytes> …`, a dash for bytes that the driver doesn't tell: all of the line at every question. */
static int list_processes(device_t *device, const char *key, const char *again, unsigned *count, process_t *list) {
    char full[256], values[LENGTH] = "", *token, *rest;
    unsigned there = 0, room = list ? *count : 0;
    values_of(device, key, full, values);
    for (token = strtok_r(values, " \n", &rest); token; token = strtok_r(NULL, " \n", &rest), there++) {
        char *bytes = strchr(token, ':') + 1;
        if (there < room)
            list[there] = (process_t){(unsigned)atoi(token), *bytes == '-' ? ~0ULL : strtoull(bytes, NULL, 10), 0, 0};
    }
    *count = there;
    if (room) return (int)number(device, again, SUCCESS);
    return there ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t *device, unsigned *count, process_t *list) {
    BEGIN(device);
    return list_processes(device, "processes", "processes.again", count, list);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(device_t *device, unsigned *count, process_t *list) {
    BEGIN(device);
    return list_processes(device, "mps_processes", "mps_processes.again", count, list);
}

typedef struct {
    unsigned pid;
    u64 stamp_us;
    unsigned sm;
    unsigned memory;
    unsigned encoder;
    unsigned decoder;
} process_sample_t;

/* `process_sm <pid>:<percent>:<seconds after now> …` */
int nvmlDeviceGetProcessUtilization(device_t *device, process_sample_t *list, unsigned *count, u64 since_us) {
    char full[256], values[LENGTH] = "", *token, *rest;
    unsigned there = 0, room = list ? *count : 0, pid, percent;
    double offset_s;
    (void)since_us; /* the real one, too, gives older samples at times */
    BEGIN(device);
    values_of(device, "process_sm", full, values);
    for (token = strtok_r(values, " \n", &rest); token; token = strtok_r(NULL, " \n", &rest))
        if (sscanf(token, "%u:%u:%lf", &pid, &percent, &offset_s) == 3) {
            if (there < room)
                list[there] = (process_sample_t){pid, (u64)(((double)time(NULL) + offset_s) * 1e6), percent, 0, 0, 0};
            there++;
        }
    *count = there;
    return room ? SUCCESS : there ? INSUFFICIENT_SIZE : (int)number(device, "process_sm_none", NOT_FOUND);
}

int nvmlDeviceGetMigMode(device_t *device, unsigned *current, unsigned *pending) {
    BEGIN(device);
    *pending = 0;
    GIVE(device, "mig", current, unsigned);
}

int nvmlDeviceGetMaxMigDeviceCount(device_t *device, unsigned *count) {
    BEGIN(device);
    *count = (unsigned)number(device, "mig_slots", SLOTS);
    return SUCCESS;
}

/* `mig.<index> <gi>:<ci>`; an index without a line is a hole. */
int nvmlDeviceGetMigDeviceHandleByIndex(device_t *device, unsigned index, device_t **slice) {
    char key[32], value[LENGTH];
    BEGIN(device);
    sprintf(key, "mig.%u", index);
    if (index >= SLOTS || !text(device, key, value)) return NOT_FOUND;
    slices[device->gpu][index] = (device_t){device->gpu, atoi(value), atoi(strchr(value, ':') + 1)};
    *slice = &slices[device->gpu][index];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(device_t *device, unsigned *id) {
    BEGIN(device);
    *id = (unsigned)device->gi;
    return device->gi < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetAttributes_v2(device_t *device, unsigned *attributes) {
    BEGIN(device);
    GIVE(device, "multiprocessors", attributes, unsigned); /* the first field */
}

typedef struct {
    unsigned version;
    unsigned supported;
} gpm_support_t;

int nvmlGpmQueryDeviceSupport(device_t *device, gpm_support_t *support) {
    BEGIN(device);
    support->supported = (unsigned)number(device, "gpm", 0);
    return SUCCESS;
}

int nvmlGpmSampleAlloc(sample_t **sample) {
    *sample = calloc(1, sizeof(sample_t));
    samples_held++;
    return SUCCESS;
}

int nvmlGpmSampleFree(sample_t *sample) {
    free(sample);
    samples_held--;
    return SUCCESS;
}

int nvmlGpmSampleGet(device_t *device, sample_t *sample) {
    samples_taken++;
    BEGIN(device);
    *sample = (sample_t){samples_taken, device->gpu, -1};
    return SUCCESS;
}

int nvmlGpmMigSampleGet(device_t *device, unsigned gi, sample_t *sample) {
    device_t slice = {device->gpu, (int)gi, 0};
    samples_taken++;
    BEGIN(&slice);
    *sample = (sample_t){samples_taken, device->gpu, (int)gi};
    return SUCCESS;
}

typedef struct {
    unsigned id;
    unsigned code;
    double value;
    char *words[3];
} metric_t;

typedef struct {
    unsigned version;
    unsigned count;
    sample_t *earlier;
    sample_t *later;
    metric_t metrics[];
} metrics_t;

/* `gpm.<metric> 50.5` in percent, `window` for the attempts to sample between the two, `gpm.<metric>.code 3`.
 * Only for two samples of one device, in their order. */
int nvmlGpmMetricsGet(metrics_t *asked_for) {
    sample_t *earlier = asked_for->earlier, *later = asked_for->later;
    if (asked_for->version != 1 || !earlier->taken || earlier->taken >= later->taken || earlier->gpu != later->gpu ||
        earlier->gi != later->gi)
        return INVALID_ARGUMENT;
    device_t device = {later->gpu, later->gi, 0};
    BEGIN(&device);
    for (unsigned place = 0; place < asked_for->count; place++) {
        char key[32], value[LENGTH];
        metric_t *metric = &asked_for->metrics[place];
        sprintf(key, "gpm.%u.code", metric->id);
        metric->code = (unsigned)number(&device, key, SUCCESS);
        sprintf(key, "gpm.%u", metric->id);
        if (!text(&device, key, value)) metric->code = NOT_SUPPORTED;
        else metric->value = strcmp(value, "window") ? atof(value) : later->taken - earlier->taken;
    }
    return SUCCESS;
}
