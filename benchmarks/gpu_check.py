import argparse, json, statistics, sys, time, traceback
import torch
import torch.nn.functional as F
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from speed_cases import build, change, NestedUNet
from editproof import immunizer
from editproof.editors.norms import group_norm, doubled, fuse
from editproof.editors.wide_attention import make_explicit
from editproof.immunizer import perturb
from editproof.methods import METHODS
from editproof.randomness import generators, children

out = open(sys.argv[1], "a")
began = time.perf_counter()
D = torch.device("cuda")


def tell(**row):
    row["after"] = round(time.perf_counter() - began, 1)
    out.write(json.dumps(row) + "\n")
    out.flush()
    print(row, flush=True)


def part(f):
    try:
        f()
    except Exception as error:
        traceback.print_exc()
        tell(part=f.__name__, error=f"{type(error).__name__}: {str(error)[:600]}")
    torch.cuda.empty_cache()


def ms(f, n=5):
    f()
    torch.cuda.synchronize()
    ts = []
    for _ in range(n):
        s = time.perf_counter()
        f()
        torch.cuda.synchronize()
        ts.append(1e3 * (time.perf_counter() - s))
    return round(min(ts), 2), round(statistics.median(ts), 2)


def rel(a, b):
    return round(((a.double() - b.double()).norm() / b.double().norm()).item(), 6)


def norms():
    torch.manual_seed(0)
    for dtype in (torch.bfloat16, torch.float16):
        for n, c, h, w, g, act in (
            (1, 128, 512, 512, 32, "silu"),
            (4, 320, 64, 64, 32, "silu"),
            (2, 2560, 8, 8, 32, "silu"),
            (3, 96, 33, 47, 96, "relu"),
            (1, 64, 9, 9, 32, "none"),
        ):
            x = (
                (2 * torch.randn(n, c, h, w, device=D) + 1)
                .to(dtype)
                .contiguous(memory_format=torch.channels_last)
                .requires_grad_()
            )
            W, B, dy = (
                torch.randn(c, device=D).to(dtype),
                torch.randn(c, device=D).to(dtype),
                torch.randn(n, c, h, w, device=D).to(dtype),
            )
            f = {"silu": F.silu, "none": lambda z: z, "relu": F.relu}[act]

            def plain(x=x):
                return f(F.group_norm(x, g, W, B, 1e-5))

            def ours(x=x):
                return group_norm(x, g, W, B, 1e-5, act)

            xd = x.detach().double().requires_grad_()
            e = f(F.group_norm(xd, g, W.double(), B.double(), 1e-5))
            (ge,) = torch.autograd.grad((e * dy.double()).sum(), xd)

            def back(k):
                y = k()
                return y, torch.autograd.grad(y, x, dy)[0]

            (a, ga), (b, gb) = back(plain), back(ours)
            tell(
                part="norms",
                dtype=str(dtype),
                shape=[n, c, h, w],
                act=act,
                value=[rel(a, e), rel(b, e)],
                gradient=[rel(ga, ge), rel(gb, ge)],
                ms=[ms(lambda: back(plain), 5)[0], ms(lambda: back(ours), 5)[0]] if dtype != torch.float32 else None,
            )


def encoder_gradient(e, x):
    y = x.clone().requires_grad_()
    return torch.autograd.grad(e.encode(y).flatten(1).norm(dim=1).sum(), y)[0]


def sd():
    e = build("sd-inpaint", D, False)
    x = torch.rand(1, 3, 512, 512, device=D)
    m = torch.ones(1, 1, 512, 512, device=D)
    m[..., 128:384, 128:384] = 0
    parts = (e.pipe.vae, e.denoiser)

    def guard():
        y = x.clone().requires_grad_()
        p = e.first_prediction(y, "", mask=m.expand(4, -1, -1, -1), generator=children(generators(0, 1), 4))
        return torch.autograd.grad(p.flatten(1).norm(dim=1).sum(), y)[0]

    def diffusion():
        y = x.clone().requires_grad_()
        s = e.sample(y, "", mask=m, steps=4, generator=children(generators(0, 1), 5))
        return torch.autograd.grad((s - 0.5).flatten(1).norm(dim=1).sum(), y)[0]

    def row(name):
        g = {}
        for job, f, n in (("encoder", lambda: encoder_gradient(e, x), 8), ("guard", guard, 4)):
            g[job] = f()
            tell(
                part="sd", variant=name, job=job, ms=ms(f, n), agrees=rel(g[job], first[job]) if job in first else None
            )
        for keep in (False, True):
            e.recompute = keep
            torch.cuda.reset_peak_memory_stats()
            tell(
                part="sd",
                variant=name,
                job="5 draws" + (", recomputed" if keep else ""),
                ms=ms(diffusion, 2),
                peak=round(torch.cuda.max_memory_allocated() / 2**30, 1),
            )
        e.recompute = None
        first.update({k: v for k, v in g.items() if k not in first})

    first = {}
    for p in parts:
        p.to(memory_format=torch.contiguous_format)
    row("contiguous")
    make_explicit(e.pipe.vae)
    row("contiguous, explicit attention")
    for p in parts:
        p.to(memory_format=torch.channels_last)
        fuse(p)
    row("channels last, fused, explicit attention")


def unet():
    x1 = torch.rand(1, 3, 512, 512, device=D)
    x16 = torch.rand(16, 3, 512, 512, device=D)
    torch.manual_seed(0)
    net = NestedUNet(batch_norm="photo").eval().requires_grad_(False).to(D)
    with torch.no_grad():
        exact = perturb(net, x1, eps=8 / 255)
        net.on(D)
        for name, fused, order in (
            ("now", False, torch.channels_last),
            ("fused", True, torch.channels_last),
            ("contiguous", False, torch.contiguous_format),
            ("fused", True, torch.channels_last),
        ):
            net.to(memory_format=order)
            immunizer.FUSED = fused
            tell(
                part="unet++",
                variant=name,
                off=rel(perturb(net, x1, eps=8 / 255), exact),
                one=ms(lambda: perturb(net, x1), 20),
                sixteen=ms(lambda: perturb(net, x16), 6),
            )
            if name == "fused":
                from torch.profiler import ProfilerActivity, profile

                for x in (x1, x16):
                    with profile(activities=[ProfilerActivity.CUDA]) as p:
                        perturb(net, x)
                        torch.cuda.synchronize()
                    ev = sorted((k for k in p.key_averages()), key=lambda k: -k.self_device_time_total)[:8]
                    tell(
                        part="unet++ profile",
                        batch=len(x),
                        top=[f"{k.self_device_time_total / 1e3:.2f} ms {k.count} x {k.key[:60]}" for k in ev],
                    )
        immunizer.FUSED = False


def flux():
    import real_sizes

    real_sizes.FLUX.update(num_layers=2, num_single_layers=6)
    e = build("flux-kontext", D, False)
    x = torch.rand(1, 3, 512, 512, device=D)
    from editproof.editors.attention import context_mass

    def step(compiled):
        y = x.clone().requires_grad_()
        v = context_mass(e, y, "", blocks="all single", timestep=0.99, generator=generators(0, 1), compiled=compiled)
        return v.detach(), torch.autograd.grad(v.sum(), y)[0]

    a = step(False)
    s = time.perf_counter()
    b = step(True)
    torch.cuda.synchronize()
    tell(part="flux slice", first=round(time.perf_counter() - s, 1), value=rel(b[0], a[0]), gradient=rel(b[1], a[1]))
    for compiled in (False, True, False, True):
        tell(
            part="flux slice",
            compiled=compiled,
            ms=ms(lambda: step(compiled), 6),
            vae=ms(lambda: encoder_gradient(e, x), 3),
        )


torch.backends.cuda.enable_cudnn_sdp(True)
for f in (norms, sd, unet, flux):
    part(f)
