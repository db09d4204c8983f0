/* Kernels for the four residual streams: what plain tensor operations do in many small passes.
   Tensors are contiguous float32; n tokens, d channels, S streams. Backward kernels overwrite their outputs. */
#include <stdlib.h>
#include <string.h>

#define S 4
#define LANES 16 /* tokens handled together: one vector register for each matrix entry */
typedef float Lanes __attribute__((vector_size(64)));

/* ---- Sinkhorn: [S*S][n], entry (row = source, column = target), token last ---- */

static void load(const float *p, long n, long at, int k, Lanes *v) {
    for (int i = 0; i < k; i++)
        for (int l = 0; l < LANES; l++) ((float *)&v[i])[l] = at + l < n ? p[i * n + at + l] : 1.0f;
}

static void store(float *p, long n, long at, int k, const Lanes *v) {
    for (int i = 0; i < k; i++)
        for (int l = 0; l < LANES && at + l < n; l++) p[i * n + at + l] = ((const float *)&v[i])[l];
}

/* Entry j of line i: even steps divide columns, odd steps rows. */
static int entry(int step, int i, int j) { return step & 1 ? i * S + j : j * S + i; }

/* Runs the steps on c; keeps the reciprocals and the matrices after each step when asked to. */
static void normalise(Lanes *c, Lanes *reciprocals, Lanes *matrices, int steps, float eps) {
    for (int s = 0; s < steps; s++) {
        for (int i = 0; i < S; i++) {
            Lanes sum = c[entry(s, i, 0)] + c[entry(s, i, 1)] + c[entry(s, i, 2)] + c[entry(s, i, 3)];
            Lanes r = 1.0f / (sum + eps);
            for (int j = 0; j < S; j++) c[entry(s, i, j)] *= r;
            if (reciprocals) reciprocals[s * S + i] = r;
        }
        if (matrices) memcpy(matrices + s * S * S, c, sizeof(Lanes) * S * S);
    }
}

void sinkhorn_fwd(const float *x, float *y, long n, long iterations, float eps) {
    for (long at = 0; at < n; at += LANES) {
        Lanes c[S * S];
        load(x, n, at, S * S, c);
        for (int i = 0; i < S * S; i++) c[i] += eps;
        normalise(c, 0, 0, 2 * iterations - 1, eps);
        store(y, n, at, S * S, c);
    }
}

/* Computes the steps again instead of keeping 39 matrices for each token. */
void sinkhorn_bwd(const float *x, const float *gy, float *gx, long n, long iterations, float eps) {
    int steps = 2 * iterations - 1;
    Lanes *reciprocals = aligned_alloc(64, sizeof(Lanes) * steps * S);
    Lanes *matrices = aligned_alloc(64, sizeof(Lanes) * steps * S * S);
    for (long at = 0; at < n; at += LANES) {
        Lanes c[S * S], g[S * S];
        load(x, n, at, S * S, c);
        for (int i = 0; i < S * S; i++) c[i] += eps;
        normalise(c, reciprocals, matrices, steps, eps);
        load(gy, n, at, S * S, g);
        for (int s = steps - 1; s >= 0; s--)
            for (int i = 0; i < S; i++) {
                const Lanes *y = matrices + s * S * S;
                Lanes dot = {0};
                for (int j = 0; j < S; j++) dot += g[entry(s, i, j)] * y[entry(s, i, j)];
                for (int j = 0; j < S; j++) g[entry(s, i, j)] = (g[entry(s, i, j)] - dot) * reciprocals[s * S + i];
            }
        store(gx, n, at, S * S, g);
    }
    free(reciprocals);
    free(matrices);
}

/* ---- merge: out[k] = post[k] y + sum_j comb[j][k] x[j] ---- */

void merge_fwd(const float *x, const float *y, const float *post, const float *comb, float *out, long n, long d) {
    for (long t = 0; t < n; t++, x += S * d, out += S * d, y += d, post += S, comb += S * S)
        for (int k = 0; k < S; k++) {
            float a = comb[k], b = comb[S + k], c = comb[2 * S + k], e = comb[3 * S + k], p = post[k];
            for (long i = 0; i < d; i++)
                out[k * d + i] = a * x[i] + b * x[d + i] + c * x[2 * d + i] + e * x[3 * d + i] + p * y[i];
        }
}

void merge_bwd(const float *x, const float *y, const float *post, const float *comb, const float *g, float *gx, float *gy,
               float *gpost, float *gcomb, long n, long d) {
    for (long t = 0; t < n; t++) {
        for (long i = 0; i < d; i++)
            gy[i] = post[0] * g[i] + post[1] * g[d + i] + post[2] * g[2 * d + i] + post[3] * g[3 * d + i];
        for (int j = 0; j < S; j++) {
            const float *c = comb + j * S, *xj = x + j * d;
            float s0 = 0, s1 = 0, s2 = 0, s3 = 0, q = 0;
            for (long i = 0; i < d; i++) {
                gx[j * d + i] = c[0] * g[i] + c[1] * g[d + i] + c[2] * g[2 * d + i] + c[3] * g[3 * d + i];
                s0 += xj[i] * g[i];
                s1 += xj[i] * g[d + i];
                s2 += xj[i] * g[2 * d + i];
                s3 += xj[i] * g[3 * d + i];
                q += g[j * d + i] * y[i];
            }
            gcomb[j * S] = s0;
            gcomb[j * S + 1] = s1;
            gcomb[j * S + 2] = s2;
            gcomb[j * S + 3] = s3;
            gpost[j] = q;
        }
        x += S * d, g += S * d, gx += S * d, y += d, gy += d;
        post += S, gpost += S, comb += S * S, gcomb += S * S;
    }
}

/* ---- mix: u = sum_s w[s] x[s] ---- */

void mix_fwd(const float *x, const float *w, float *u, long n, long d) {
    for (long t = 0; t < n; t++, x += S * d, u += d, w += S)
        for (long i = 0; i < d; i++) u[i] = w[0] * x[i] + w[1] * x[d + i] + w[2] * x[2 * d + i] + w[3] * x[3 * d + i];
}

void mix_bwd(const float *x, const float *w, const float *g, float *gx, float *gw, long n, long d) {
    for (long t = 0; t < n; t++, x += S * d, gx += S * d, g += d, w += S, gw += S)
        for (int s = 0; s < S; s++) {
            float q = 0;
            for (long i = 0; i < d; i++) {
                gx[s * d + i] = w[s] * g[i];
                q += x[s * d + i] * g[i];
            }
            gw[s] = q;
        }
}
